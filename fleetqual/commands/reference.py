"""References and floors."""

from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from fleetqual.commands.app import QUALIFIED, UNJUDGED, Json, Matrix, Results, reference
from fleetqual.commands.output import print_json, print_table


@reference.command("freeze")
def freeze_reference(
    matrix: Matrix,
    out: Annotated[
        str | None, typer.Option(help="Reference root; references/ of the results if left out.")
    ] = None,
    results: Results = "results",
) -> None:
    """Make the truth with the matrix's reference engine, with where it came from."""
    from cluster.reference.freeze_orders import freeze_orders, roots
    from runner.freeze import freeze

    for path in freeze(freeze_orders(matrix), out or roots(results)[0]):
        typer.echo(path)


@reference.command("floors")
def measure_floors(
    matrix: Matrix,
    out: Annotated[
        str | None, typer.Option(help="Reference root; references/ of the results if left out.")
    ] = None,
    results: Results = "results",
) -> None:
    """Measure how far benign configurations of the reference engine lie from its truth."""
    from analysis.judging.floors import floor_rows
    from cluster.reference.floor_matrices import benign_matrices, require_all
    from cluster.reference.freeze_orders import copy_references, roots
    from cluster.running.run import RunOptions, run_matrix
    from runner.freeze import write_floor

    target = out or roots(results)[0]
    with TemporaryDirectory(prefix="fleetqual-floors-") as folder:
        # A root of its own: these runs are no qualification and must not become the latest one.
        evidence = f"{folder}/results"
        copy_references(target, f"{evidence}/references")
        for benign in benign_matrices(matrix, Path(folder)):
            ran = run_matrix(RunOptions(matrix=benign, results=evidence, only="stage=logits"))
            require_all(ran)
            floors = groupby(floor_rows(evidence, ran.run_id), key=lambda row: row.floor_id)
            for _, rows in floors:
                typer.echo(write_floor(list(rows), target))


@reference.command("show")
def show_reference(results: Results = "results", as_json: Json = False) -> None:
    """The frozen references that a run would use."""
    from cluster.reference.freeze_orders import roots
    from runner.freeze import show

    rows = show(roots(results))
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        typer.echo("no references yet: make some with `fleetqual reference freeze MATRIX`")


@reference.command("verify")
def verify_reference(results: Results = "results", as_json: Json = False) -> None:
    """Check that the frozen references are whole and unchanged."""
    from cluster.reference.freeze_orders import roots
    from runner.freeze import verify

    problems = verify(roots(results))
    if as_json:
        print_json(problems)
    else:
        for problem in problems:
            typer.echo(problem, err=True)
        typer.echo(f"{len(problems)} problems" if problems else "all references are intact")
    raise typer.Exit(UNJUDGED if problems else QUALIFIED)
