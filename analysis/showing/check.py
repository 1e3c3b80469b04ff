"""``fleetqual check``: a run's verdicts as a table, as JSON, as JUnit, and as an exit code."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from analysis.judging.catalog import Catalog, choose_run
from analysis.judging.judge import open_judged
from analysis.showing.headline import headline
from analysis.showing.junit import write_junit
from analysis.showing.output import console, plain, print_json, verdict_text
from analysis.showing.summary import Summary, alarm_texts, name_of, scope_of, summarise
from runner.stored.store import Store


def check(
    results: str, run_id: str | None = None, *, junit: Path | None = None, as_json: bool = False
) -> int:
    """Print the verdicts of a run, judging it first where needed; return the exit code.

    Raises:
        UserError: there is no such run.
    """
    store = Store(results)
    chosen = choose_run(store, run_id)
    with open_judged(store, chosen) as catalog:
        return print_verdicts(store, catalog, chosen, junit=junit, as_json=as_json)


def print_verdicts(
    store: Store,
    catalog: Catalog,
    run_id: str,
    *,
    junit: Path | None = None,
    as_json: bool = False,
) -> int:
    """Print the verdicts of a run in an open, judged catalog; return the exit code."""
    summary = summarise(catalog, run_id)
    first = headline(catalog, summary)
    # `explain` without --run looks at the run that `check` would choose by itself.
    run = "" if run_id == choose_run(store, None) else f" --run {run_id}"
    if junit is not None:
        write_junit(summary, first, junit)
    if as_json:
        print_json(
            {
                "run_id": summary.run_id,
                "headline": first,
                "exit_code": summary.exit_code,
                "qualification": summary.qualification,
                "verdicts": summary.verdicts,
                "attempts": summary.attempts,
                "quarantined": summary.quarantined,
                "unexpected_passes": summary.unexpected_passes,
                "alarm_rates": summary.alarm_rates,
            }
        )
    else:
        console().print(plain(first, "bold", 1000), soft_wrap=True)
        _print(console(), summary, run)
    return summary.exit_code


def _print(out: Console, summary: Summary, run: str) -> None:
    table = Table(title=f"run {summary.run_id}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("cell", no_wrap=True)
    for name in ("suite/engine/variant/pass", "node", "verdict", "culprit", "confirmed"):
        table.add_column(name)
    table.add_column("mean KL", justify="right", no_wrap=True)
    for row in summary.qualification:
        table.add_row(
            plain(row["cell_id"][:11]),
            plain(name_of(row)),
            plain(row["node_id"]),
            verdict_text(
                row["verdict"],
                scope_of(row, summary.declared_of(row)).removeprefix(row["verdict"]),
            ),
            plain(row["culprit"]),
            plain(row["confirmed"].replace("not_applicable", "–")),
            plain(_mean_kl(summary, row)),
        )
    out.print(table)
    # Beside the table an explanation would be a column three letters wide; cells often share one.
    out.print(plain("Why", "bold"))
    shared: dict[str, list[str]] = {}
    for row in summary.qualification:
        shared.setdefault(row["explanation"], []).append(row["cell_id"][:11])
    for explanation, cells in shared.items():
        out.print(plain(f"  {', '.join(dict.fromkeys(cells))}: {explanation}"))
    _print_list(out, "The reference against itself", alarm_texts(summary.alarm_rates), str)
    broken = [row for row in summary.quarantined if row not in summary.lost_evidence]
    _print_list(
        out,
        "Damaged judgements (computed again from the evidence; nothing is lost)",
        broken,
        lambda r: f"{r['file']}: {r['reason']}",
    )
    _print_list(
        out,
        "Unexpected passes (a declared difference did not occur)",
        summary.unexpected_passes,
        _passed,
    )
    _print_list(
        out,
        "Quarantined files (not used as evidence; run their cells again with --resume)",
        summary.lost_evidence,
        lambda r: f"{r['file']}: {r['reason']}",
    )
    failed = [row for row in summary.attempts if row["status"] != "ok"]
    _print_list(out, "Failed attempts", failed, _failed)
    reasons = sorted(row["reason"] for row in summary.skips)
    skips = [{"reason": r, "n": len(list(g))} for r, g in itertools.groupby(reasons)]
    _print_list(out, "Skipped", skips, lambda r: f"{r['n']} × {r['reason']}")
    troubled = [
        r for r in summary.qualification if r["verdict"] not in ("qualified", "not_observed")
    ]
    _print_list(out, "Look closer", troubled, lambda r: f"fleetqual explain {r['cell_id']}{run}")


def _mean_kl(summary: Summary, row: dict[str, Any]) -> str:
    """Return how far the cell's logits lie from the reference, in nats."""
    for verdict in summary.of_cell(row, summary.verdicts):
        if (verdict["stage"], verdict["case_group"]) == ("logits", "*"):
            return "–" if verdict["effect"] is None else f"{verdict['effect']:.1e}"
    return "–"


def _passed(row: dict[str, Any]) -> str:
    entry = f"expected[{row['entry']}] at {row['stage']}"
    return f"{name_of(row)} on {row['node_id']}: {entry} — {row['reason']}"


def _failed(row: dict[str, Any]) -> str:
    signal = f" ({row['signal']})" if row["signal"] else ""
    where = f" at {row['stage_reached']}" if row["stage_reached"] else ""
    error = row["error"] or "no message"
    ended = f"{row['status']}{signal}{where}: {error}"
    return f"{name_of(row)} on {row['node_id']}, attempt {row['attempt']}: {ended}"


def _print_list(out: Console, title: str, rows: Sequence[Any], line: Any) -> None:
    if rows:
        out.print()
        out.print(plain(title, "bold"))
        for text in dict.fromkeys(line(row) for row in rows):
            out.print(plain(f"  {text}"))
