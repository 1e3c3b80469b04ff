"""A self-test's findings as a table, as Markdown and as JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from analysis.showing.output import console, plain, print_json
from fleetqual.selftest.findings import Assessment, Finding

#: Where faults were put, as totals are told apart.
_GROUPS = {
    "files_and_options": "in files and options",
    "wrap": "in the adapter",
    "gateways": "in gateways before servers",
}
_HELD_OUT = (
    "These were written down before any threshold was tuned on one of them, and stand here",
    "whatever they show.",
)
_COLUMNS = ("fault", "incident", "depth", "engine", "detected", "placed at", "confirmed")


@dataclass(frozen=True)
class Made:
    """How a self-test was made, which its findings do not say."""

    command: str
    """What was typed, without the places of one machine."""
    seconds: float
    held_out: bool = False
    not_run: Mapping[str, str] = field(default_factory=dict)
    """Fault that the matrix cannot show → why."""
    asked_in_part: Mapping[str, str] = field(default_factory=dict)
    """Fault that is run → suites of it that the matrix does not name."""


def tell(found: Assessment, made: Made, results: str, *, as_json: bool, minimal: bool) -> None:
    """Print a self-test: what was found, every miss and alarm with its reason, and the totals."""
    if as_json:
        told: dict[str, Any] = {
            "totals": found.totals,
            "faults": [finding.as_json for finding in found.faults],
            "not_run": list(made.not_run),
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
    for line in _summary(found, made):
        out.print(plain(line))


def markdown(found: Assessment, made: Made) -> str:
    """Return the page of a self-test, for people who were not there."""
    head = [*_COLUMNS, "cheapest case", "smallest strength"]
    lines = [
        f"# Self-test{': faults that were held out' if made.held_out else ''}",
        "",
        "Every fault is the mechanism of an incident from the field, injected into the shipped",
        "model, its engine's options, its adapter (`wrap`), or a gateway before it (`proxy`).",
        *(_HELD_OUT if made.held_out else ()),
        "",
        f"Made by `{made.command}` in {made.seconds / 60:.0f} minutes; rules {found.rules}.",
        "",
        *(f"- {line}" for line in _summary(found, made)),
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


def write_markdown(found: Assessment, made: Made, path: Path) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markdown(found, made), encoding="utf-8")


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


def _summary(found: Assessment, made: Made) -> list[str]:
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
    for why, count in Counter(made.not_run.values()).items():
        lines.append(f"{_faults(count)} not run: {why}")
    for suites, count in Counter(made.asked_in_part.values()).items():
        lines.append(f"{_faults(count)} run without {suites}: not in the matrix")
    return lines


def _faults(count: int) -> str:
    return "1 fault" if count == 1 else f"{count} faults"


def _rate(title: str, rates: dict[str, Any]) -> str:
    text = f"{title}: {rates['detected']} of {rates['faults']} detected"
    if rates["detected"]:
        text += f", {rates['placed']} of {rates['detected']} placed where they are"
        if rates["placed_in_sets"]:
            text += f" ({rates['placed_in_sets']} among stages that the server hides)"
    return text


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())[:300]
