"""Floors: run benign configurations of the reference engine and measure how far they lie."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.judging.floors import floor_rows
from cluster.matrix.resolve import Resolved, resolve
from cluster.planning.plan import Plan
from cluster.reference.floor_matrices import Floor, benign_matrix, floors_of
from cluster.reference.floor_run import run_configurations
from cluster.reference.freeze_orders import copy_references
from cluster.reference.missing_floors import floor_cases, missing_floors
from runner.freeze import write_floor


def measure(matrix: Path, references: str) -> Iterator[str]:
    """Run 20 configurations for each floor of a matrix; write the floors and yield their paths.

    Args:
        matrix: the matrix whose variants need floors.
        references: reference root that has the references and receives the floors.

    Raises:
        UserError: the matrix is wrong, or a configuration did not end ok.
    """
    resolved = resolve(matrix)
    for floor in floors_of(resolved):
        yield from _measured(resolved, floor, references, few=False)


def measure_missing(plan: Plan, roots: Sequence[str]) -> Iterator[tuple[Floor, list[str]]]:
    """Measure each floor that a plan lacks, from a few configurations; a prior knows the rest.

    Yields each floor with the paths that were written. The first of ``roots`` has, or receives,
    everything.

    Raises:
        UserError: a configuration did not end ok.
    """
    taken = floor_cases(plan)
    if taken is None:
        return
    suite, cases = taken
    for floor in missing_floors(plan, roots):
        paths = _measured(plan.resolved, floor, roots[0], few=True, suite=suite.name, cases=cases)
        yield floor, list(paths)


def _measured(
    resolved: Resolved,
    floor: Floor,
    references: str,
    *,
    few: bool,
    suite: str | None = None,
    cases: Sequence[str] = (),
) -> Iterator[str]:
    with TemporaryDirectory(prefix="fleetqual-floors-") as folder:
        # A results root of its own: these runs qualify nothing and must not become the latest run.
        results = f"{folder}/results"
        copy_references(references, f"{results}/references")
        suites = None if suite is None else (suite,)
        matrix = benign_matrix(resolved, floor, Path(folder) / "floor", few=few, suites=suites)
        ran = run_configurations(matrix, results, cases)
        for _, rows in groupby(floor_rows(results, ran.run_id), key=lambda row: row.floor_id):
            yield write_floor(list(rows), references)
