"""What a rule gets: one case, the texts of its model, and how the engine is run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.matrix.expected_rules.model_texts import ModelTexts
from runner.stored.canonical import canonical_message
from suites.stages import Stage
from suites.suite import Case, Golden


@dataclass(frozen=True)
class Asked:
    """One case as it is asked of one engine; of the stage ``config`` one fact."""

    case: Case | None
    """None where the stage has no cases."""
    fact: str
    """Name of the fact, at the stage ``config``; else empty."""
    golden: Golden
    """The golden answers; empty if they were written for another model."""
    texts: ModelTexts
    serving: str
    options: Mapping[str, Any]
    """The engine's own options."""
    values: Mapping[str, Any]
    """What the entry gives to its rule."""
    frozen: Callable[[str, str], list[dict[str, Any]]]
    """Stage, probe → the reference's traces of this case: one for each set of weights."""

    @property
    def script_ids(self) -> list[int] | None:
        """The ids that are forced; None for a case without a script."""
        if self.golden.script_ids is not None:
            return list(self.golden.script_ids)
        script = None if self.case is None else self.case.script
        return None if script is None else self.texts.script_ids(script)

    @property
    def right_message(self) -> dict[str, Any] | None:
        """The right message in canonical form; None if it is not known."""
        found = self.golden.message
        return None if found is None else canonical_message(found)

    def ending(self, text: str, finish_reason: str) -> dict[str, Any]:
        """Return an output of the stage ``stop``: what the golden answer leaves open is null."""
        golden = self.golden
        stated = golden.text is not None or golden.finish_reason is not None
        return {
            "text": None if stated and golden.text is None else text,
            "finish_reason": None if stated and golden.finish_reason is None else finish_reason,
        }

    def parsed(self, message: dict[str, Any], finish_reason: str) -> dict[str, Any]:
        """Return an output of the stage ``parse``."""
        golden = self.golden
        open_reason = golden.message is not None and golden.finish_reason is None
        return {
            "message": canonical_message(message),
            "finish_reason": None if open_reason else finish_reason,
        }


@dataclass(frozen=True)
class Rule:
    """One way in which an engine differs from the truth, for any model."""

    stages: tuple[Stage, ...]
    outputs: Callable[[Asked], Iterator[Any]]
    """Yields what the engine gives: the compared output as text or plain data; nothing where the
    rule changes nothing. At ``sampling`` it yields the sampler that is applied instead."""
    values: tuple[str, ...] = ()
    """Names of the values that an entry may give to the rule."""
