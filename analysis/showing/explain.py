"""``fleetqual explain``: the evidence side by side, and the command that reproduces it."""

import difflib
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from analysis.judging.catalog import Catalog, choose_run
from analysis.judging.judge import open_judged
from analysis.showing.cell_evidence import TOLD_IN_WORDS, evidence_of
from analysis.showing.explain_tables import print_draws, print_numbers, print_swaps
from analysis.showing.output import console, plain, print_json, verdict_text
from analysis.showing.summary import name_of
from analysis.sql_functions.differences import visible
from runner.stored.store import Store
from suites.errors import UserError

_MARK = "bold reverse red"


def explain(
    results: str,
    cell: str,
    *,
    run_id: str | None = None,
    case: str | None = None,
    as_json: bool = False,
) -> int:
    """Show why a cell got its verdict, on every node that ran it; return 0.

    Args:
        results: results root.
        cell: id or its beginning, series, or suite/engine/variant/pass or a part of that.
        run_id: the latest run when None.
        case: show only this case, in full length.
        as_json: print plain data instead.

    Raises:
        UserError: no cell, or more than one, is meant by ``cell``; or the case is not known.
    """
    store = Store(results)
    chosen = choose_run(store, run_id)
    with open_judged(store, chosen) as catalog:
        cells = find_cells(catalog, chosen, cell)
        if case is not None:
            require_case(catalog, chosen, case)
        found = [evidence_of(catalog, row, case, results) for row in cells]
    if as_json:
        print_json({"run_id": chosen, "cells": found})
    else:
        for evidence in found:
            _print(console(), evidence)
    return 0


def find_cells(catalog: Catalog, run_id: str, wanted: str) -> list[dict[str, Any]]:
    """Return the rows of ``qualification`` of the one cell that is meant, one for each node.

    Raises:
        UserError: no cell, or more than one, is meant.
    """
    rows = catalog.rows("SELECT * FROM qualification WHERE run_id = ?", [run_id])
    tests: tuple[Any, ...] = (
        lambda row: wanted in (row["cell_id"], row["series_id"], name_of(row)),
        lambda row: (
            row["cell_id"].startswith((wanted, f"c1:{wanted}"))
            or row["series_id"].startswith(wanted)
        ),
        lambda row: set(wanted.split("/")) <= set(name_of(row).split("/")),
    )
    for test in tests:
        matching = [row for row in rows if test(row)]
        ids = {row["cell_id"] for row in matching}
        if len(ids) == 1:
            return matching
        if ids:
            raise UserError(
                f"{wanted!r} fits {len(ids)} cells",
                where=f"run {run_id}",
                known=", ".join(f"{r['cell_id']} ({name_of(r)})" for r in matching),
            )
    skipped = catalog.rows(
        "SELECT reason FROM plan WHERE run_id = ? AND reason IS NOT NULL "
        "AND (cell_id = ? OR suite || '/' || engine || '/' || variant || '/' || pass = ? "
        "OR engine || '/' || variant || '/' || pass = ?)",
        [run_id, wanted, wanted, wanted],
    )
    raise UserError(
        f"{wanted!r} was skipped: {skipped[0]['reason']}" if skipped else f"no cell {wanted!r}",
        where=f"run {run_id}",
        known=", ".join(f"{r['cell_id']} ({name_of(r)})" for r in rows) or "no cells at all",
    )


def require_case(catalog: Catalog, run_id: str, case: str) -> None:
    """Raise UserError if the run has no such case; it names the nearest ones."""
    known = catalog.rows(
        "SELECT DISTINCT case_id FROM cases WHERE run_id = ? UNION "
        "SELECT DISTINCT case_id FROM traces WHERE run_id = ? ORDER BY 1",
        [run_id, run_id],
    )
    names = [row["case_id"] for row in known if row["case_id"] != "*"]
    if case not in names:
        near = difflib.get_close_matches(case, names, n=8, cutoff=0.5) or names
        raise UserError(f"no case {case!r}", where=f"run {run_id}", known=", ".join(near[:12]))


def _print(out: Console, found: dict[str, Any]) -> None:
    cell = found["cell"]
    facts = [cell["model"], cell["backend"], cell["hardware"], cell["engine_version"]]
    confirmed = cell["confirmed"].replace("_", " ")
    head = [
        plain(found["sentence"], "bold", 1000),
        verdict_text(cell["verdict"], found["scope"].removeprefix(cell["verdict"])),
        plain(cell["explanation"], limit=2000),
        plain(f"culprit: {cell['culprit'] or 'none'} · confirmed: {confirmed}"),
        plain(" · ".join(str(f) for f in facts if f), "dim"),
    ]
    title = f"{name_of(cell)} on {cell['node_id']} · {cell['cell_id']} · attempt {cell['attempt']}"
    out.print(Panel(Group(*head), title=plain(title), title_align="left"))
    out.print(_stage_table(found["stages"]))
    if found["kept_of_failed_attempts"]:
        out.print(plain("\nWhat a failed attempt had reported before it ended:".strip(), "bold"))
        for row in found["kept_of_failed_attempts"]:
            told = f"attempt {row['attempt']} ({row['status']})"
            out.print(plain(f"  {told}: {row['traces']} traces of {row['stage']}"))
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for row in found["differences"]:
        by_stage.setdefault(row["stage"], []).append(row)
    for stage in found["stages"]:
        differing = by_stage.get(stage["stage"], [])
        whole = found["brief"] and stage["verdict"] in ("divergent", "expected")
        kept = {"logits": found["numbers"], "sampling": found["draws"]}.get(stage["stage"])
        has_numbers = not found["brief"] and kept
        if differing or whole or has_numbers:
            _print_stage(out, stage, differing, found)
    if found["swaps"]:
        print_swaps(out, found["swaps"])
    if not found["brief"]:
        out.print()
    for row in found["outcomes"]:
        told = f": {row['detail']}" if row["detail"] else ""
        name = f"{row['stage']}, case {row['case_id']} ({row['probe']})"
        out.print(plain(f"{name}: {row['outcome'].replace('_', ' ')}{told}", limit=4000))
    for stage, many in found["not_told"].items():
        out.print(plain(f"… and {many} more at {stage}; name one with --case", "dim"))
    out.print(plain("\nRun just this cell again:".strip(), "bold"))
    out.print(plain(f"  {found['command']}", limit=4000))


def _stage_table(stages: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("stage", "verdict", "observed", "n", "differ"):
        table.add_column(name)
    table.add_column("why", ratio=1)
    for row in stages:
        table.add_row(
            plain(row["stage"]),
            verdict_text(row["verdict"]),
            plain(row["observed"]),
            plain(row["n"]),
            plain(row["mismatches"]),
            plain(row["reason"] or row["explanation"] or ""),
        )
    return table


def _print_stage(
    out: Console, stage: dict[str, Any], differing: list[dict[str, Any]], found: dict[str, Any]
) -> None:
    out.print()
    out.rule(plain(f"{stage['stage']}: {stage['verdict']}", "bold"), align="left")
    out.print(plain(f"This part {stage['does']}."))
    out.print(plain(stage["explanation"] or stage["reason"], limit=2000))
    # The tables of numbers below say it for every case; one command is enough.
    for row in differing[:1] if stage["stage"] == "logits" else differing:
        out.print()
        declared = f" — declared: {row['expected_reason']}" if row["is_expected"] else ""
        truth = "itself" if row["kind"] == "self" else f"the {row['kind']}"
        against = f" against {row['other'] or truth}"
        out.print(plain(f"case {row['case_id']} ({row['probe']}){against}{declared}", "bold"))
        if row["asked"]:
            out.print(plain(f"  asked: {row['asked']}", "dim", 300 if found["brief"] else 4000))
        if row["detail"] and stage["stage"] in TOLD_IN_WORDS | {"instrument", "chain"}:
            out.print(plain(f"  {row['detail']}", limit=2000))
        for aspect in row["aspects"] if stage["stage"] not in TOLD_IN_WORDS else []:
            out.print(_side_by_side(aspect))
        if row["decodes_to"] is not None:
            out.print(
                plain(f"  the engine decodes its ids to: {visible(row['decodes_to'])}", "", 600)
            )
        if stage["stage"] != "logits" and row["declaration"] and not row["is_expected"]:
            out.print(plain(f"  to declare it: {row['declaration']}", "dim", 4000))
        out.print(plain(f"  reproduce: {row['command']}", "dim", 4000))
    if stage["stage"] == "logits":
        print_numbers(out, stage, found)
    if stage["stage"] == "sampling":
        print_draws(out, found["draws"])


def _side_by_side(aspect: dict[str, Any]) -> Table:
    where = f"{aspect['name'] + ': ' if aspect['name'] else ''}{aspect['unit']} {aspect['at']}"
    table = Table(title=plain(f"first difference at {where}"), title_justify="left", expand=True)
    table.add_column("expected", ratio=1, overflow="fold")
    table.add_column("seen", ratio=1, overflow="fold")
    table.add_row(_marked(aspect["expected"]), _marked(aspect["seen"]))
    return table


def _marked(part: dict[str, str]) -> Text:
    """Return one side; its parts were spelt out already, and ⟦ ⟧ marks survive in a log."""
    return Text(part["before"]) + Text(f"⟦{part['marked']}⟧", _MARK) + Text(part["after"])
