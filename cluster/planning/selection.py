"""``--only``: a part of a plan, selected by the plan's columns."""

import difflib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from suites.errors import UserError
from suites.stages import CASELESS, CHAIN, STAGES
from suites.suite import Suite

COLUMNS = (
    "cell",
    "series",
    "suite",
    "model",
    "variant",
    "engine",
    "serving",
    "backend",
    "pass",
    "hardware",
    "node",
)
#: Keys that select cases within a cell, not cells.
WITHIN = ("case", "stage")
_EXAMPLE = "--only engine=llama_cpp,pass=structure,case=tokenize/nfd-*"


@dataclass(frozen=True)
class Selection:
    """A parsed ``--only`` expression; an empty one selects everything.

    Values of one key are alternatives, different keys must all match. A value may hold ``*``, and
    an id (cell, series) may be cut short.
    """

    text: str | None = None
    values: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def matches(self, columns: dict[str, str | None]) -> bool:
        """Whether a pair with these columns is selected; a column that is None never matches."""
        return all(
            any(_matches(key, columns.get(key), pattern) for pattern in patterns)
            for key, patterns in self.values.items()
            if key in COLUMNS
        )

    def cases(self, suite: Suite) -> tuple[str, ...] | None:
        """Return the ids of a suite's selected cases; None for all of them, () for none."""
        if not any(key in self.values for key in WITHIN):
            return None
        return tuple(
            case.id
            for case in suite.cases
            if all(
                any(fnmatchcase(value, pattern) for pattern in self.values.get(key, ("*",)))
                for key, value in (("case", case.id), ("stage", case.stage))
            )
        )


def parse_selection(text: str | None) -> Selection:
    """Parse ``key=value,key=value``; None selects everything.

    Raises:
        UserError: a key is unknown, a value is missing, or a stage has no cases to select.
    """
    if text is None:
        return Selection()
    values: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise UserError(
                f"{part.strip()!r} is not key=value", where="--only", fix=f"write e.g. {_EXAMPLE}"
            )
        if key not in COLUMNS + WITHIN:
            near = difflib.get_close_matches(key, COLUMNS + WITHIN, n=1, cutoff=0.5)
            raise UserError(
                f"unknown key {key!r}",
                where="--only",
                known=", ".join(COLUMNS + WITHIN),
                fix=f"did you mean {near[0]!r}?" if near else f"write e.g. {_EXAMPLE}",
            )
        if key == "stage":
            _stage_has_cases(value)
        values[key] = (*values.get(key, ()), value)
    return Selection(text, values)


def _stage_has_cases(stage: str) -> None:
    with_cases = [s for s in (*STAGES, CHAIN) if s not in CASELESS]
    if stage in CASELESS:
        raise UserError(
            f"stage {stage!r} has no cases to select: every cell probes it",
            where="--only",
            known=", ".join(with_cases),
            fix="remove stage=",
        )
    if stage not in with_cases and "*" not in stage:
        near = difflib.get_close_matches(stage, with_cases, n=1, cutoff=0.5)
        raise UserError(
            f"unknown stage {stage!r}",
            where="--only",
            known=", ".join(with_cases),
            fix=f"did you mean {near[0]!r}?" if near else "use a known stage",
        )


def _matches(key: str, value: str | None, pattern: str) -> bool:
    if value is None:
        return False
    if key in ("cell", "series") and "*" not in pattern:
        return value.startswith(pattern) or value.partition(":")[2].startswith(pattern)
    return fnmatchcase(value, pattern)
