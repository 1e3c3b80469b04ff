"""The findings of a self-test as a table, as JSON and as a page in Markdown."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from analysis.showing.output import console, plain, print_json
from fleetqual.selftest.findings import Assessment, Finding, SelftestRun

#: Groups of faults in the totals, by the place of injection.
_GROUPS = {
    "files_and_options": "in files and options",
    "wrap": "in the adapter",
    "gateways": "in proxies in front of servers",
}
_HELD_OUT = (
    "These faults were written before any threshold was tuned on them. All of them are listed,",
    "whatever the result.",
)
_COLUMNS = ("fault", "incident", "depth", "engine", "detected", "placed at", "confirmed")


def print_selftest(
    found: Assessment, run: SelftestRun, results: str, *, as_json: bool, minimal: bool
) -> None:
    """Print the findings, every miss and alarm with its reason, and the totals."""
    if as_json:
        body: dict[str, Any] = {
            "totals": found.totals,
            "faults": [finding.as_json for finding in found.faults],
            "not_run": list(run.not_run),
        }
        if minimal:
            body["totals"]["minimal"] = found.minimal()
        print_json(body)
        return
    out = console()
    table = Table(*_COLUMNS, "cheapest case", box=box.SIMPLE_HEAD)
    for finding in found.faults:
        table.add_row(*map(plain, _row(finding)), plain(_cheapest(finding)))
    out.print(table)
    _print_reasons(out, "Missed, misplaced or failed", found.faults, results)
    _print_reasons(out, "Controls that alarmed or failed", found.controls, results)
    if minimal:
        _print_minimal(out, found)
    for line in _summary(found, run):
        out.print(plain(line))


def page(found: Assessment, run: SelftestRun) -> str:
    """Return the page of a self-test in Markdown."""
    head = [*_COLUMNS, "cheapest case", "smallest strength"]
    lines = [
        f"# Self-test{': held-out faults' if run.held_out else ''}",
        "",
        "Every fault imitates an incident from the field. It is injected into the shipped model,",
        "its engine's options, its adapter (`wrap`), or a proxy in front of its server (`proxy`).",
        *(_HELD_OUT if run.held_out else ()),
        "",
        f"Made by `{run.command}` in {run.seconds / 60:.0f} minutes; rules {found.rules}.",
        "",
        *(f"- {line}" for line in _summary(found, run)),
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for finding in found.faults:
        smallest = "" if finding.smallest is None else f"{finding.smallest:g}"
        lines.append(f"| {' | '.join([*_row(finding), _cheapest(finding), smallest])} |")
    lines += ["", "| control | incident | engine | alarmed |", "|---|---|---|---|"]
    lines += [
        f"| {' | '.join([f.fault.id, f.fault.incident, f.fault.engine, _yes(f.detected)])} |"
        for f in found.controls
    ]
    missed = [f for f in (*found.faults, *found.controls) if f.reason]
    if missed:
        lines += ["", "## Missed, misplaced, alarmed or failed", ""]
        lines += [f"- `{f.fault.id}`: {_one_line(f.reason)}" for f in missed]
    lines += ["", "## The cheapest cases that detect all of these faults", ""]
    lines += [
        "| case | suite | seconds | new faults | faults per second |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {c['case']} | {c['suite']} | {c['seconds']:.3f} | {len(c['detects'])} | "
        f"{c['per_second']:.1f} |"
        for c in found.minimal()
    ]
    return "\n".join(lines) + "\n"


def write_page(found: Assessment, run: SelftestRun, path: Path) -> None:
    """Write the page of a self-test to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(found, run), encoding="utf-8")


def _row(finding: Finding) -> list[str]:
    fault = finding.fault
    placed = finding.culprit or ""
    if finding.detected and not finding.placed:
        placed += f" (not {' or '.join(fault.stages)})"
    detected = "error" if finding.errors else _yes(finding.detected)
    confirmed = finding.confirmed.replace("not_applicable", "–")
    return [
        fault.id,
        fault.incident,
        fault.inject.depth,
        fault.engine,
        detected,
        placed,
        confirmed,
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _cheapest(finding: Finding) -> str:
    if not finding.cases:
        return ""
    case = finding.cases[0]
    seconds = "" if case["seconds"] is None else f", {case['seconds']:.2f} s"
    return f"{case['case']} ({case['tokens'] or 0} tokens{seconds}) of {len(finding.cases)}"


def _print_reasons(out: Any, title: str, findings: Sequence[Finding], results: str) -> None:
    findings = [finding for finding in findings if finding.reason]
    if not findings:
        return
    out.print(plain(title, "bold"))
    for finding in findings:
        out.print(plain(f"  {finding.fault.id}: {_one_line(finding.reason)}"))
        if finding.cell:
            where = f"{finding.cell[:11]} --run {finding.run} --results {results}"
            out.print(plain(f"    fleetqual explain {where}"))
    out.print()


def _print_minimal(out: Any, found: Assessment) -> None:
    chosen = found.minimal()
    seconds = sum(case["seconds"] for case in chosen)
    detects = sum(len(case["detects"]) for case in chosen)
    title = f"{len(chosen)} cases detect {detects} faults in {seconds:.1f} s"
    table = Table("case", "suite", "seconds", "new faults", "faults/s", title=title)
    for case in chosen:
        table.add_row(
            plain(case["case"]),
            plain(case["suite"]),
            f"{case['seconds']:.3f}",
            str(len(case["detects"])),
            f"{case['per_second']:.1f}",
        )
    out.print(table)


def _summary(found: Assessment, run: SelftestRun) -> list[str]:
    totals = found.totals
    lines = [_rate("all faults", totals)]
    for name, title in _GROUPS.items():
        if totals[name]["faults"]:
            lines.append(_rate(title, totals[name]))
    lines.append(
        f"benign controls: {totals['false_alarms']} alarms of {totals['controls']} "
        f"(named controls: {len(found.controls)}, untouched cells: {len(found.clean)})"
    )
    if totals["errors"]:
        lines.append(f"{totals['errors']} faults or controls ended in errors")
    for why, count in Counter(run.not_run.values()).items():
        lines.append(f"{_faults(count)} not run: {why}")
    for suites, count in Counter(run.without_suites.values()).items():
        lines.append(f"{_faults(count)} run without {suites}, which the matrix does not name")
    return lines


def _faults(count: int) -> str:
    return "1 fault" if count == 1 else f"{count} faults"


def _rate(title: str, rates: dict[str, Any]) -> str:
    text = f"{title}: {rates['detected']} of {rates['faults']} detected"
    if rates["detected"]:
        text += f", {rates['placed']} of {rates['detected']} placed at an accepted stage"
        if rates["placed_in_sets"]:
            text += f" ({rates['placed_in_sets']} among stages that the server hides)"
    return text


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())[:300]
