"""A self-test's findings as a table, as Markdown and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from analysis.output import console, plain, print_json
from analysis.selftest import Assessment, Finding

#: Where faults were put, as totals are told apart.
_GROUPS = {
    "files_and_options": "in files and options",
    "wrap": "in the adapter",
    "gateways": "in gateways before servers",
}
_COLUMNS = ("fault", "incident", "depth", "engine", "detected", "placed at", "confirmed")


def tell(found: Assessment, results: str, *, as_json: bool, minimal: bool) -> None:
    """Print a self-test: what was found, every miss and alarm with its reason, and the totals."""
    if as_json:
        told: dict[str, Any] = {
            "totals": found.totals,
            "faults": [finding.as_json for finding in found.faults],
        }
        if minimal:
            told["totals"]["minimal"] = found.minimal()
        print_json(told)
        return
    out = console()
    table = Table(*_COLUMNS, "cheapest case", box=box.SIMPLE_HEAD)
    for finding in found.faults:
        table.add_row(*map(plain, _row(finding)), plain(_cheapest(finding)))
    out.print(table)
    _list(out, "Missed, misplaced or failed", [f for f in found.faults if f.reason], results)
    _list(out, "Controls that alarmed or failed", [f for f in found.controls if f.reason], results)
    if minimal:
        _tell_minimal(out, found)
    for line in _summary(found):
        out.print(plain(line))


def markdown(found: Assessment) -> str:
    """Return the page of a self-test, for people who were not there."""
    head = [*_COLUMNS, "cheapest case", "smallest strength"]
    lines = [
        "# Self-test",
        "",
        "Every fault is the mechanism of an incident from the field, injected into the shipped",
        "model, its engine's options, its adapter (`wrap`), or a gateway before it (`proxy`).",
        "",
        *(f"- {line}" for line in _summary(found)),
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
    lines += ["", "## The cheapest cases that detect all of it", ""]
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


def write_markdown(found: Assessment, path: Path) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(found), encoding="utf-8")


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


def _list(out: Any, title: str, findings: Sequence[Finding], results: str) -> None:
    if not findings:
        return
    out.print(plain(title, "bold"))
    for finding in findings:
        out.print(plain(f"  {finding.fault.id}: {_one_line(finding.reason)}"))
        if finding.cell:
            where = f"{finding.cell[:11]} --run {finding.run} --results {results}"
            out.print(plain(f"    fleetqual explain {where}"))
    out.print()


def _tell_minimal(out: Any, found: Assessment) -> None:
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


def _summary(found: Assessment) -> list[str]:
    totals = found.totals
    lines = [_rate("all faults", totals)]
    for name, title in _GROUPS.items():
        if totals[name]["faults"]:
            lines.append(_rate(title, totals[name]))
    lines.append(f"benign controls: {totals['false_alarms']} alarms of {totals['controls']}")
    if totals["errors"]:
        lines.append(f"{totals['errors']} faults or controls ended in errors")
    return lines


def _rate(title: str, rates: dict[str, Any]) -> str:
    text = f"{title}: {rates['detected']} of {rates['faults']} detected"
    if rates["detected"]:
        text += f", {rates['placed']} of {rates['detected']} placed where they are"
        if rates["placed_in_sets"]:
            text += f" ({rates['placed_in_sets']} among stages that the server hides)"
    return text


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())[:300]
