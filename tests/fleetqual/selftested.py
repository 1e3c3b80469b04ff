"""One run of ``fleetqual selftest`` over a few faults of each stage and depth, and two controls."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import fleetqual

#: Fault → where it must be placed.
FAULTS = {
    "tools-dropped-by-template": "template",
    "pre-tokenizer-default": "tokenize",
    "matrix-scaled": "weights",
    "theta-of-the-old-key": "logits",
    "rows-mixed-in-batch": "state",
    "hidden-repetition-penalty": "sampling",
    "one-eos-of-two": "stop",
    "broken-characters-dropped-in-streams": "detokenize",
    "last-brace-eaten": "parse",
    "logprobs-depend-on-order": "instrument",
}
CONTROLS = ("template-comment-in-file", "half-precision")


@dataclass(frozen=True)
class SelfTested:
    """What the run left behind."""

    results: Path
    """Results root of its runs."""
    page: str
    told: dict[str, Any]
    """Its JSON."""

    def fault(self, name: str) -> dict[str, Any]:
        """Return what was found of a fault."""
        (found,) = [f for f in self.told["faults"] if f["id"] == name]
        return dict(found)

    def explained(self, name: str) -> str:
        """Return what ``explain`` says of a fault's cell."""
        found = self.fault(name)
        asked = ("explain", found["cell"], "--run", found["run"])
        return fleetqual(*asked, "--results", self.results).out


def selftest(folder: Path) -> SelfTested:
    """Run it; its own verdict must be that all is well."""
    chosen = [part for name in (*FAULTS, *CONTROLS) for part in ("--fault", name)]
    asked = ("--results", folder, "--json", "--minimal", "-o", folder / "page.md")
    done = fleetqual("selftest", *chosen, *asked, timeout=1200)
    assert done.code == 0, done.out + done.err
    page = (folder / "page.md").read_text(encoding="utf-8")
    return SelfTested(folder / "selftest", page, done.json)
