"""One case run again: what was expected, what was seen then, and what is seen now."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.judging.catalog import Catalog
from analysis.showing.cell_evidence import TOLD_IN_WORDS
from analysis.showing.output import plain
from analysis.sql_functions.differences import parted, visible
from suites.exit_codes import DIVERGED, QUALIFIED, UNJUDGED

_MARK = "bold reverse red"
_OUTPUTS = """
    SELECT
        a.stage, a.probe, a.repeat, a.outcome, a.expected, a.seen, a.detail, a.effect,
        bool_or(d.case_id IS NOT NULL) AS differs
    FROM alignments AS a
    LEFT JOIN divergences AS d
        ON d.run_id = a.run_id AND d.cell_id = a.cell_id AND d.node_id = a.node_id
        AND d.stage = a.stage AND d.probe = a.probe AND d.case_id = a.case_id
        AND d.repeat = a.repeat AND d.kind NOT IN ('between_nodes', 'later_attempt')
    WHERE a.judged AND a.run_id = ? AND a.cell_id = ? AND a.node_id IS NOT DISTINCT FROM ?
        AND a.case_id = ?
    GROUP BY ALL
    ORDER BY a.stage, a.probe, a.repeat
"""


@dataclass(frozen=True)
class Output:
    """One compared output of a case, then and now."""

    then: dict[str, Any]
    now: dict[str, Any] | None
    """None where the new run brought no such output."""

    @property
    def state(self) -> bool | None:
        """Whether it differs again; None where that cannot be said."""
        if self.now is None or self.now["outcome"] in ("missing", "error", "not_observed"):
            return None
        return bool(self.now["differs"])


def outputs_of(catalog: Catalog, cell: dict[str, Any], case: str) -> list[dict[str, Any]]:
    """Return the compared outputs of a case in one (cell, node); ``differs`` says which do."""
    return catalog.rows(_OUTPUTS, [cell["run_id"], cell["cell_id"], cell["node_id"], case])


def paired(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[Output]:
    """Return each output that differed, beside the same output of the new run."""
    keys = ("stage", "probe", "repeat")
    by_key = {tuple(row[k] for k in keys): row for row in now}
    return [Output(row, by_key.get(tuple(row[k] for k in keys))) for row in then if row["differs"]]


def exit_code(outputs: list[Output]) -> int:
    """Return 1 if an output differs again, 3 if one could not be compared, else 0."""
    states = {output.state for output in outputs}
    return DIVERGED if True in states else UNJUDGED if None in states else QUALIFIED


def verdict_of(outputs: list[Output]) -> str:
    """Return ``reproduced`` or ``not reproduced``, and how many outputs that rests on."""
    again = [output for output in outputs if output.state]
    if again:
        same = sum(_same(output) for output in again)
        how = "with the same output" if same == len(again) else f"{same} with the same output"
        return f"reproduced: {len(again)} of {len(outputs)} outputs differ again, {how}"
    lost = [output for output in outputs if output.state is None]
    if lost:
        why = lost[0].now["detail"] if lost[0].now else "the new run brought no output of it"
        return f"not reproduced: {len(lost)} of {len(outputs)} outputs were not compared: {why}"
    return f"not reproduced: all {len(outputs)} outputs agree now"


def as_data(outputs: list[Output]) -> dict[str, Any]:
    """Return the outcome as plain data."""
    kept = ("outcome", "seen", "detail", "effect")
    return {
        "reproduced": {1: True, 0: False}.get(exit_code(outputs)),
        "outputs": [
            {
                **{k: o.then[k] for k in ("stage", "probe", "repeat", "expected")},
                "then": {k: o.then[k] for k in kept},
                "now": None if o.now is None else {k: o.now[k] for k in kept},
            }
            for o in outputs
        ],
    }


def print_reproduced(out: Console, title: str, outputs: list[Output]) -> None:
    """Print each output then and now, and whether the difference was reproduced."""
    out.print(plain(title, "bold", 1000))
    for output in outputs:
        then, now = output.then, output.now
        out.print(plain(f"{then['stage']} ({then['probe']})"))
        if then["stage"] in TOLD_IN_WORDS | {"instrument", "logits"} or then["seen"] is None:
            out.print(plain(f"  then: {_told(then)}", limit=2000))
            out.print(plain(f"  now:  {_told(now)}", limit=2000))
            continue
        table = Table(show_lines=False, expand=True)
        for name in ("expected", "seen then", "seen now"):
            table.add_column(name, ratio=1, overflow="fold")
        table.add_row(_side(then, "expected"), _side(then, "seen"), _side(now, "seen"))
        out.print(table)
    out.print(plain(verdict_of(outputs), "bold", 1000))


def _same(output: Output) -> bool:
    return output.now is not None and output.now["seen"] == output.then["seen"]


def _told(row: dict[str, Any] | None) -> str:
    if row is None:
        return "no output"
    effect = "" if row["effect"] is None else f"effect {row['effect']:.3g}"
    return row["detail"] or effect or str(row["outcome"])


def _side(row: dict[str, Any] | None, name: str) -> Text:
    """Return one side of a row, cut to where it parts from the other side."""
    if row is None or row["seen"] is None:
        return plain("no output" if row is None else _told(row))
    aspects = parted(row["expected"], row["seen"])
    if not aspects:
        return plain("as expected" if name == "seen" else visible(row["expected"] or ""), limit=300)
    found = Text()
    for aspect in aspects:
        part = getattr(aspect, name)
        label = f"{aspect.name}: " if aspect.name else ""
        found += Text(f"{label}{part.before}") + Text(f"⟦{part.marked}⟧", _MARK)
        found += Text(f"{part.after}\n")
    found.rstrip()
    return found
