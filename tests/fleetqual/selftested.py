"""Two runs of ``fleetqual selftest`` over a few faults of each stage and depth, and two controls.

The faults of ``state`` and ``sampling`` run in those suites only, and the others in ``smoke`` only.
"""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from analysis.showing.explain import explain
from fleetqual.selftest.base_matrix import WEEKLY
from tests.command import fleetqual
from tests.paths import TINY_CHAT

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
#: Of these sweeps one strength is run. The third, logprobs-depend-on-order, is run in full.
_ONE_STRENGTH = {"matrix-scaled": "1.01", "hidden-repetition-penalty": "1.1"}
_OF_OWN_SUITES = ("rows-mixed-in-batch", "hidden-repetition-penalty", "half-precision")


@dataclass(frozen=True)
class SelfTested:
    """What the runs left behind."""

    results: Path
    """Results root of the runs."""
    pages: tuple[str, ...]
    printed: tuple[dict[str, Any], ...]
    """The JSON of each."""
    _explained: dict[str, str] = field(default_factory=dict)

    @property
    def totals(self) -> list[dict[str, Any]]:
        """The totals of each."""
        return [one["totals"] for one in self.printed]

    @property
    def faults(self) -> list[dict[str, Any]]:
        """What was found of the faults of both."""
        return [fault for one in self.printed for fault in one["faults"]]

    def fault(self, name: str) -> dict[str, Any]:
        """Return what was found of a fault."""
        (found,) = [f for f in self.faults if f["id"] == name]
        return dict(found)

    def explained(self, name: str) -> str:
        """Return what ``explain`` prints of a fault's cell."""
        if name not in self._explained:
            found, out = self.fault(name), io.StringIO()
            with redirect_stdout(out):
                explain(str(self.results), found["cell"], run_id=found["run"])
            self._explained[name] = out.getvalue()
        return self._explained[name]


def selftest(folder: Path) -> SelfTested:
    """Run them; both must say that all is well."""
    every = (*FAULTS, *CONTROLS)
    parts = {
        ("smoke",): [name for name in every if name not in _OF_OWN_SUITES],
        ("state", "sampling"): list(_OF_OWN_SUITES),
    }
    pages, printed = [], []
    for suites, names in parts.items():
        ids = [f"{n}@{_ONE_STRENGTH[n]}" if n in _ONE_STRENGTH else n for n in names]
        chosen = [part for one in ids for part in ("--fault", one)]
        page = folder / f"{suites[0]}.md"
        asked = ("--results", folder, "--json", "--minimal", "-o", page)
        base = _weekly(folder / f"{suites[0]}.yaml", suites)
        done = fleetqual("selftest", base, *chosen, *asked, timeout=1200)
        assert done.code == 0, done.out + done.err
        pages.append(page.read_text(encoding="utf-8"))
        printed.append(done.json)
    return SelfTested(folder / "selftest", tuple(pages), tuple(printed))


def _weekly(path: Path, suites: tuple[str, ...]) -> Path:
    """Write the shipped weekly matrix with these suites only."""
    here = WEEKLY.parent
    body = yaml.safe_load(WEEKLY.read_text(encoding="utf-8")) | {"suites": list(suites)}
    body["expected_from"] = [str((here / name).resolve()) for name in body["expected_from"]]
    (model,) = body["models"]
    model["hf"] = str(TINY_CHAT)
    for variant in model["variants"]:
        kind = "gguf" if "gguf" in variant else "hf"
        variant[kind] = str((here / variant[kind]).resolve())
    path.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    return path
