"""References that a run lacks: what `plan` says about them, and how `run` makes them."""

from collections.abc import Sequence

from rich.console import Console

from cluster.planning.plan import Plan
from cluster.reference.freeze_orders import (
    Wanted,
    estimate_s,
    orders_of,
    reference_engine,
    roots,
    truth_variant,
)
from cluster.reference.missing import missing_references, no_truth_over
from cluster.reference.progress import duration, show_freezing
from runner.freeze import NoTruth, freeze_missing
from suites.errors import UserError


def make_missing(plan: Plan, results: str, console: Console | None = None) -> list[str]:
    """Freeze the references that the plan needs and no root has, into the results root.

    What cannot be made is said on ``console`` (stderr by default), and the run goes on: it judges
    what it can. Returns the paths that were written.

    Raises:
        UserError: the reference engine failed.
    """
    console = console or Console(stderr=True, highlight=False)
    target, *_ = searched = roots(results)
    wanted = missing_references(plan, searched)
    for note in _refused(plan):
        _say(console, note)
    if not wanted:
        return []
    try:
        orders = orders_of(plan.resolved, wanted)
    except UserError as error:
        _say(console, f"no reference for {_titles(wanted)}: {error.line}")
        return []
    written: list[str] = []
    seconds = sum(estimate_s(plan.resolved, each) for each in wanted)
    with show_freezing(orders, seconds, console) as listen:
        for order in orders:
            try:
                written += freeze_missing([order], target, listen)
            except NoTruth as error:
                _say(console, error.line)
    return written


def reference_notes(plan: Plan, results: str) -> list[str]:
    """Return a line for each model variant without a complete reference: what a run does."""
    wanted, notes = missing_references(plan, roots(results)), _refused(plan)
    cannot = ""
    try:
        reference_engine(plan.resolved)
    except UserError as error:
        cannot = error.line
    for each in wanted:
        about = duration(estimate_s(plan.resolved, each))
        what = f"{each.title}: no reference for {', '.join(each.cases)}"
        notes.append(f"{what}: {cannot or f'made by this run, about {about}'}")
    return notes


def _refused(plan: Plan) -> list[str]:
    found = {
        f"{pair.cell.model.name}/{variant.name}: no reference: {why}"
        for pair in plan.pairs
        if (variant := truth_variant(pair.cell.model, pair.cell.variant.variant))
        and (why := no_truth_over(variant))
    }
    return sorted(found)


def _titles(wanted: Sequence[Wanted]) -> str:
    return ", ".join(each.title for each in wanted)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
