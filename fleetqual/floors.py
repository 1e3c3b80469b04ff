"""Floors: run benign configurations of the reference engine and measure how far they lie."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.judging.floors import floor_rows
from cluster.reference.floor_matrices import benign_matrices, require_all
from cluster.reference.freeze_orders import copy_references
from cluster.running.run import RunOptions, run_matrix
from runner.freeze import write_floor


def measure(matrix: Path, references: str) -> Iterator[str]:
    """Run the configurations, write one floor for each dtype, and yield the path of each.

    Args:
        matrix: the matrix whose variants need floors.
        references: reference root that has the references and receives the floors.

    Raises:
        UserError: the matrix is wrong, or a configuration did not end ok.
    """
    with TemporaryDirectory(prefix="fleetqual-floors-") as folder:
        # A results root of its own: these runs qualify nothing and must not become the latest run.
        results = f"{folder}/results"
        copy_references(references, f"{results}/references")
        for benign in benign_matrices(matrix, Path(folder)):
            ran = run_matrix(RunOptions(matrix=benign, results=results, only="stage=logits"))
            require_all(ran)
            floors = groupby(floor_rows(results, ran.run_id), key=lambda row: row.floor_id)
            for _, rows in floors:
                yield write_floor(list(rows), references)
