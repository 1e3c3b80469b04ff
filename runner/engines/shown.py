"""What an engine shows of its stages, as it is served in one way."""

from dataclasses import dataclass

from runner.engines.base import STAGES
from runner.engines.trace import OBSERVED

#: Ability → the stage whose observation says that an engine shows it.
_STAGE_OF = {
    "template": "template",
    "tokenizer": "tokenize",
    "vocabulary": "detokenize",
    "distribution": "logits",
    "sampler": "sampling",
}


def all_stages(how: str, **others: str) -> dict[str, str]:
    """Return how each stage is seen: all in one way, except for those that are named."""
    return {**dict.fromkeys(STAGES, how), **others}


@dataclass(frozen=True)
class Shown:
    """What an engine shows, as it is served in one way."""

    stages: dict[str, str]
    """Stage → path, endpoint, reenacted; or hidden, absent, not_probed."""
    calls: dict[str, str]
    """Stage that is shown → the call through which it is seen, for the documentation."""
    scenarios: tuple[str, ...] = ()
    """Kinds of ``state`` scenario that it can be put into."""

    def has(self, ability: str) -> bool:
        """Whether an ability, or a scenario, of this name is shown."""
        if ability in _STAGE_OF:
            return self.stages[_STAGE_OF[ability]] in OBSERVED
        return ability in self.scenarios
