"""False alarms among clean cells, with the exact bound of their rate.

The bound treats cells as independent. But they share a machine, a model and cases: so it says how
often benign options, variants and seeds raise alarms here, and little about other machines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.judging.judge import open_judged
from analysis.judging.rules import rules
from analysis.showing.output import console, plain, print_json
from analysis.sql_functions.statistics import binomial_upper
from runner.stored.store import Store
from suites.exit_codes import DIVERGED, QUALIFIED, UNJUDGED


@dataclass(frozen=True)
class Alarms:
    """The result of clean cells."""

    cells: int
    """Cells that were judged."""
    alarmed: list[dict[str, Any]]
    """Cells that raised an alarm, with the blamed stage."""
    unjudged: list[dict[str, Any]]
    """Cells without a verdict; they count neither as alarm nor as no alarm."""
    seconds: float

    @property
    def upper(self) -> float | None:
        """Exact (Clopper–Pearson) one-sided upper bound of the rate; None without a cell."""
        if not self.cells:
            return None
        return binomial_upper(len(self.alarmed), self.cells, rules()["rate_confidence"])

    @property
    def exit_code(self) -> int:
        """1 with an alarm; else 3 if a cell could not be judged; else 0."""
        if self.alarmed:
            return DIVERGED
        return UNJUDGED if self.unjudged or not self.cells else QUALIFIED


#: A cell raises an alarm when it diverges, when its instrument does, or at an unexpected pass.
_CELLS = """
    SELECT
        p.run_id, p.cell_id, p.node_id, p.suite, p.engine, p.variant, p.pass,
        coalesce(q.verdict, 'error') AS verdict, q.culprit,
        coalesce(u.reason, q.explanation, p.reason) AS explanation,
        q.verdict = 'divergent' OR i.verdict = 'divergent' OR u.reason IS NOT NULL AS alarmed
    FROM plan AS p
    LEFT JOIN qualification AS q USING (run_id, cell_id, node_id)
    LEFT JOIN verdicts AS i
        ON i.run_id = p.run_id AND i.cell_id = p.cell_id AND i.node_id = p.node_id
        AND i.stage = 'instrument' AND i.case_group = '*'
    LEFT JOIN (
        SELECT run_id, cell_id, node_id, 'unexpected pass: ' || min(reason) AS reason
        FROM unexpected_passes
        GROUP BY ALL
    ) AS u ON u.run_id = p.run_id AND u.cell_id = p.cell_id AND u.node_id = p.node_id
"""


def alarms_of(results: str, run_ids: Sequence[str], seconds: float) -> Alarms:
    """Judge runs of clean cells and count those that raise an alarm."""
    store, rows = Store(results), list[dict[str, Any]]()
    for run_id in run_ids:
        with open_judged(store, run_id) as catalog:
            rows += catalog.rows(_CELLS)
    alarmed = [row for row in rows if row["alarmed"]]
    sound = [row for row in rows if row["verdict"] == "qualified" and row not in alarmed]
    return Alarms(
        cells=len(alarmed) + len(sound),
        alarmed=alarmed,
        unjudged=[row for row in rows if row not in alarmed and row not in sound],
        seconds=seconds,
    )


def print_alarms(found: Alarms, *, as_json: bool) -> None:
    """Print how many clean cells raised an alarm, and list them."""
    if as_json:
        print_json(
            {
                "cells": found.cells,
                "alarms": len(found.alarmed),
                "upper": found.upper,
                "seconds": found.seconds,
                "alarmed": found.alarmed,
                "unjudged": found.unjudged,
            }
        )
        return
    out = console()
    for title, rows in (("Alarms", found.alarmed), ("Not judged", found.unjudged)):
        if rows:
            out.print(plain(title, "bold"))
        for row in rows:
            name = f"{row['suite']} {row['engine']}/{row['variant']}/{row['pass']}"
            blamed = row["culprit"] or row["verdict"]
            out.print(plain(f"  {row['cell_id'][:11]} {name}: {blamed}: {row['explanation']}"))
    upper = "–" if found.upper is None else f"{found.upper:.2%}"
    confidence = f"{rules()['rate_confidence']:.0%}".replace("%", " %")
    out.print(
        plain(
            f"{len(found.alarmed)} alarms of {found.cells} clean cells ({found.seconds:.0f} s); "
            f"if cells are independent, the rate is below {upper} with {confidence} confidence"
        )
    )
