"""Run one case of a cell again, apart from all results, and say whether it differs again."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from analysis.judging.catalog import choose_run
from analysis.judging.judge import open_judged
from analysis.showing.cell_evidence import matrix_of
from analysis.showing.explain import find_cells, require_case
from analysis.showing.output import console, print_json
from analysis.showing.reproduced import (
    as_data,
    exit_code,
    outputs_of,
    paired,
    print_reproduced,
)
from analysis.showing.summary import name_of
from cluster.running.run import RunOptions, run_matrix
from runner.stored.store import Store
from suites.errors import UserError

_REFERENCES = "references"


def reproduce(
    results: str,
    cell: str,
    case: str,
    *,
    run_id: str | None = None,
    address: str = "local",
    as_json: bool = False,
) -> int:
    """Run one case of a cell again and print what was expected and what is seen.

    The new run has a results root of its own in a temporary folder, which is removed. So it leaves
    no trace in the results: it is not the latest run, and no history counts it.

    Args:
        results: results root of the run in which the case differs.
        cell: as for ``fleetqual explain``.
        case: id of the case; a fact or a tensor is one too, such as ``config/rope_theta``.
        run_id: the latest run when None.
        address: address of the Ray cluster.
        as_json: print plain data instead.

    Returns:
        1 if it differs again, 0 if it agrees now, 3 if it could not be compared.

    Raises:
        UserError: there is no such cell or case, it does not differ, or the matrix has changed.
    """
    store = Store(results)
    chosen = choose_run(store, run_id)
    with open_judged(store, chosen) as catalog:
        found = find_cells(catalog, chosen, cell)
        require_case(catalog, chosen, case)
        # The cell may have run on several nodes; the first on which the case differs is enough.
        row, then = found[0], list[dict[str, Any]]()
        for one in reversed(found):
            outputs = outputs_of(catalog, one, case)
            if any(output["differs"] for output in outputs):
                row, then = one, outputs
        matrix = Path(matrix_of(catalog, chosen))
        cases = catalog.rows(_CASES, [chosen, row["suite"]])
        # The series outlives an upgrade, so an old difference can be asked for again after it.
        only = f"series={row['series_id']},{_selection(cases, case)}"
    if not then:
        raise UserError(
            f"the case {case!r} does not differ, so there is nothing to reproduce",
            where=f"run {chosen}, cell {row['cell_id']}",
        )
    if not matrix.is_file():
        raise UserError(
            f"the matrix of the run is not here: {matrix}",
            fix="run the command in the folder in which the run was started",
        )
    with tempfile.TemporaryDirectory(prefix="fleetqual-") as folder:
        _bring_references(store, Path(folder))
        again = run_matrix(RunOptions(matrix, folder, address=address, only=only))
        root = Store(folder)
        with open_judged(root, again.run_id) as catalog:
            (other,) = catalog.rows(
                "SELECT * FROM qualification WHERE run_id = ? LIMIT 1", [again.run_id]
            )
            pairs = paired(then, outputs_of(catalog, other, case))
    changed = None if other["cell_id"] == row["cell_id"] else other["cell_id"]
    if as_json:
        named = {"run_id": chosen, "cell_id": row["cell_id"], "changed_to": changed, "case": case}
        print_json({**named, **as_data(pairs)})
    else:
        title = f"case {case} of {name_of(row)}, run again"
        if changed:
            title += f" as {changed}: an engine, a model or a suite has changed since"
        print_reproduced(console(), title, pairs)
    return exit_code(pairs)


_CASES = "SELECT DISTINCT case_id, stage FROM cases WHERE run_id = ? AND suite = ? ORDER BY 1"


def _selection(cases: list[dict[str, Any]], case: str) -> str:
    """Return the part of ``--only`` that selects a case, or what has the fact or tensor of one."""
    if any(row["case_id"] == case for row in cases):
        return f"case={case}"
    # Facts and tensors are probed in every run of the cell; the instrument asks cases of logits.
    numbers = [row["case_id"] for row in cases if row["stage"] == "logits"]
    if case.startswith("instrument") and numbers:
        return "stage=logits"
    return f"case={cases[0]['case_id']}"


def _bring_references(store: Store, folder: Path) -> None:
    """Give the temporary root the references of the results."""
    if store.local:
        there = Path(store.path(_REFERENCES))
        if there.is_dir():
            os.symlink(there, folder / _REFERENCES, target_is_directory=True)
        return
    source = pafs.FileSelector(store.path(_REFERENCES), allow_not_found=True, recursive=True)
    if store.filesystem.get_file_info(source):
        target = str(folder / _REFERENCES)
        pafs.copy_files(
            store.path(_REFERENCES),
            target,
            source_filesystem=store.filesystem,
            destination_filesystem=pafs.LocalFileSystem(),
        )
