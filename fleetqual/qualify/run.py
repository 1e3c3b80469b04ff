"""``fleetqual qualify``: prepare, keep to the budget, run, judge."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from cluster.reference.freeze_orders import estimate_s, roots
from cluster.reference.missing import missing_references
from cluster.running.run import RunOptions, plan_matrix
from fleetqual.judged_run import run_and_judge
from fleetqual.qualify.budget import fit, seconds_of
from fleetqual.qualify.files import MadeFiles
from fleetqual.qualify.prepare import Asked, Prepared, prepare
from fleetqual.qualify.serving import Served
from fleetqual.references import make_missing


def say(text: str) -> None:
    """Print one line about what is done; stdout stays free for the verdict."""
    typer.echo(text, err=True)


def qualify_model(asked: Asked, budget: str | None, *, as_json: bool) -> int:
    """Qualify a model and print its verdict; return the exit code.

    Raises:
        UserError: the model cannot be read, or nothing here can serve it.
    """
    limit = None if budget is None else seconds_of(budget)
    started = time.monotonic()
    prepared = prepare(asked, say)
    matrix = _matrix(prepared, limit, time.monotonic() - started)
    say(f"matrix   {matrix}")
    options = RunOptions(matrix=matrix, results=asked.results, prepare=make_missing)
    return run_and_judge(options, as_json=as_json)


def _matrix(prepared: Prepared, limit: float | None, spent: float) -> Path:
    """Write the files; with a limit, only what fits into the rest of it.

    No engine may take longer than that rest, whatever was estimated.
    """
    ways, rest = prepared.ways, None
    if limit is not None:
        rest = max(limit - spent, 1.0)
        fitted = fit(ways, rest, lambda some: _estimate(prepared, some))
        ways = fitted.kept
        if fitted.left_out:
            names = ", ".join(way.name for way in fitted.left_out)
            say(f"budget   {names} left out; the rest takes about {fitted.seconds:.0f} s")
        elif fitted.seconds > rest:
            say(f"budget   too small: this takes about {fitted.seconds:.0f} s")
    return prepared.write(ways, prepared.files, rest)


def _estimate(prepared: Prepared, ways: Sequence[Served]) -> float:
    """Return the seconds of a run that serves the model in these ways, its reference included."""
    with TemporaryDirectory(prefix="fleetqual-qualify-") as folder:
        plan = plan_matrix(prepared.write(ways, MadeFiles(Path(folder))), None, None)
        wanted = missing_references(plan, roots(prepared.asked.results))
        return plan.seconds + sum(estimate_s(plan.resolved, each) for each in wanted)
