"""False alarms among clean cells, with the exact bound of their rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.functions import binomial_upper
from analysis.judge import open_judged
from analysis.output import console, plain, print_json
from runner.store import Store


@dataclass(frozen=True)
class Alarms:
    """What clean cells showed."""

    cells: int
    """Those that were judged."""
    alarmed: list[dict[str, Any]]
    """Cells that diverged, with what they blame."""
    unjudged: list[dict[str, Any]]
    """Cells without a verdict, which count on neither side."""
    seconds: float

    @property
    def upper(self) -> float | None:
        """Exact (Clopper–Pearson) one-sided upper 95 % bound of the rate; None without a cell."""
        return binomial_upper(len(self.alarmed), self.cells) if self.cells else None

    @property
    def exit_code(self) -> int:
        """1 with an alarm, else 3 if a cell could not be judged, else 0."""
        return 1 if self.alarmed else 3 if self.unjudged or not self.cells else 0


def alarms_of(results: str, run_ids: Sequence[str], seconds: float) -> Alarms:
    """Judge runs of clean cells and count those that diverge."""
    store, rows = Store(results), list[dict[str, Any]]()
    for run_id in run_ids:
        with open_judged(store, run_id) as catalog:
            rows += catalog.rows(
                "SELECT p.run_id, p.cell_id, p.node_id, p.suite, p.engine, p.variant, p.pass, "
                "coalesce(q.verdict, 'error') AS verdict, q.culprit, "
                "coalesce(q.explanation, p.reason) AS explanation FROM plan AS p "
                "LEFT JOIN qualification AS q USING (run_id, cell_id, node_id)"
            )
    judged = [row for row in rows if row["verdict"] in ("qualified", "divergent")]
    return Alarms(
        cells=len(judged),
        alarmed=[row for row in judged if row["verdict"] == "divergent"],
        unjudged=[row for row in rows if row not in judged],
        seconds=seconds,
    )


def tell_alarms(found: Alarms, *, as_json: bool) -> None:
    """Print how many clean cells alarmed, and each of them."""
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
    out.print(
        plain(
            f"{len(found.alarmed)} alarms of {found.cells} clean cells; their rate is below "
            f"{upper} with 95 % confidence ({found.seconds:.0f} s)"
        )
    )
