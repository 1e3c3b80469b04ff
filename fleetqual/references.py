"""References and floors that a run lacks: what `plan` says about them, and how `run` makes them."""

from collections.abc import Sequence

from rich.console import Console

from cluster.planning.plan import Plan
from cluster.reference.floor_matrices import Floor
from cluster.reference.freeze_orders import (
    estimate_s,
    orders_of,
    reference_engine,
    roots,
    truth_variant,
)
from cluster.reference.missing import missing_references, no_truth_over
from cluster.reference.missing_floors import floor_cases, floor_seconds, missing_floors
from cluster.reference.progress import duration, show_freezing
from fleetqual.floors import measure_missing
from runner.freeze import NoTruth, freeze_missing
from suites.errors import UserError


def make_missing(plan: Plan, results: str, console: Console | None = None) -> list[str]:
    """Make the references and floors that the plan needs and no root has, into the results root.

    What cannot be made is said on ``console`` (stderr by default), and the run goes on: it judges
    what it can. Returns the paths that were written.

    Raises:
        UserError: the reference engine failed.
    """
    console = console or Console(stderr=True, highlight=False)
    searched = roots(results)
    for note in _refused(plan):
        _say(console, note)
    wanted, floors = missing_references(plan, searched), missing_floors(plan, searched)
    if not wanted and not floors:
        return []
    try:
        orders = orders_of(plan.resolved, wanted)
        reference_engine(plan.resolved)
    except UserError as error:
        titles = [each.title for each in wanted] + [each.title for each in floors]
        lacking = ", ".join(dict.fromkeys(titles))
        _say(console, f"no reference or no floor for {lacking}: {error.line}")
        return []
    written: list[str] = []
    if wanted:
        seconds = sum(estimate_s(plan.resolved, each) for each in wanted)
        with show_freezing(orders, seconds, console) as listen:
            for order in orders:
                try:
                    written += freeze_missing([order], searched[0], listen)
                except NoTruth as error:
                    _say(console, error.line)
    return written + _make_floors(plan, searched, floors, console)


def _make_floors(
    plan: Plan, searched: Sequence[str], floors: Sequence[Floor], console: Console
) -> list[str]:
    taken, written = floor_cases(plan), list[str]()
    if floors and taken is not None:
        count, seconds = len(taken[1]), sum(floor_seconds(plan, each, taken) for each in floors)
        titles = ", ".join(each.title for each in floors)
        _say(console, f"floors of {titles}: {count} cases, about {duration(seconds)}")
    for floor, paths in measure_missing(plan, searched):
        _say(console, f"floor of {floor.title}: {'measured' if paths else 'nothing to measure'}")
        written += paths
    return written


def reference_notes(plan: Plan, results: str) -> list[str]:
    """Return a line for each reference and floor that is missing: what a run does about it."""
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
    if (taken := floor_cases(plan)) is None:
        return notes
    for floor in missing_floors(plan, roots(results)):
        about = duration(floor_seconds(plan, floor, taken))
        made = f"measured by this run from a few configurations, about {about}"
        notes.append(f"{floor.title}: no floor: {cannot or made}")
    return notes


def _refused(plan: Plan) -> list[str]:
    found = {
        f"{pair.cell.model.name}/{variant.name}: no reference: {why}"
        for pair in plan.pairs
        if (variant := truth_variant(pair.cell.model, pair.cell.variant.variant))
        and (why := no_truth_over(variant))
    }
    return sorted(found)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
