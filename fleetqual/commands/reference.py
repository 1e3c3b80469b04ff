"""``fleetqual reference``: references and floors."""

from typing import Annotated

import typer

from fleetqual.commands.app import Json, Matrix, Results, reference
from fleetqual.commands.output import print_json, print_table
from suites.exit_codes import QUALIFIED, UNJUDGED

Out = Annotated[
    str | None,
    typer.Option(
        metavar="URI", help="Reference root to write to. Default: `references` in the results root."
    ),
]


@reference.command("freeze")
def freeze_reference(matrix: Matrix, out: Out = None, results: Results = "results") -> None:
    """Compute and store references.

    They are computed with the reference engine of the matrix."""
    from cluster.reference.freeze_orders import freeze_orders, roots
    from cluster.reference.progress import show_freezing
    from runner.freeze import freeze

    orders, seconds = freeze_orders(matrix)
    with show_freezing(orders, seconds) as listen:
        written = freeze(orders, out or roots(results)[0], listen)
    for path in written:
        typer.echo(path)


@reference.command("floors")
def measure_floors(matrix: Matrix, out: Out = None, results: Results = "results") -> None:
    """Measure the floors of a matrix.

    A floor says how far benign configurations of the reference engine are from the reference."""
    from cluster.reference.freeze_orders import roots
    from fleetqual.floors import measure

    for path in measure(matrix, out or roots(results)[0]):
        typer.echo(path)


@reference.command("show")
def show_reference(results: Results = "results", as_json: Json = False) -> None:
    """Show the stored references.

    These are the references that a run with these results uses."""
    from cluster.reference.freeze_orders import roots
    from runner.frozen_sets import show

    rows = show(roots(results))
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        typer.echo("no references; `fleetqual reference freeze MATRIX` makes them")


@reference.command("verify")
def verify_reference(results: Results = "results", as_json: Json = False) -> None:
    """Check the stored references.

    It checks that they are complete and unchanged. Exit codes: 0 or 3."""
    from cluster.reference.freeze_orders import roots
    from runner.frozen_sets import verify

    problems = verify(roots(results))
    if as_json:
        print_json(problems)
    else:
        for problem in problems:
            typer.echo(problem, err=True)
        typer.echo(f"{len(problems)} problems" if problems else "all references are intact")
    raise typer.Exit(UNJUDGED if problems else QUALIFIED)


Root = Annotated[
    str, typer.Argument(metavar="URI", help="The other reference root: a folder or a URI.")
]


@reference.command("push")
def push_references(uri: Root, results: Results = "results", as_json: Json = False) -> None:
    """Copy references and floors of a results root to another reference root.

    What is there already is left alone; every file is verified before and after it is copied."""
    from cluster.reference.freeze_orders import roots

    _copy(roots(results)[0], uri, as_json=as_json)


@reference.command("pull")
def pull_references(uri: Root, results: Results = "results", as_json: Json = False) -> None:
    """Copy references and floors of another reference root into a results root.

    A run with these results then uses them. Files are verified as by `push`."""
    from cluster.reference.freeze_orders import roots

    _copy(uri, roots(results)[0], as_json=as_json)


def _copy(source: str, target: str, *, as_json: bool) -> None:
    from runner.sharing import share

    done = share(source, target)
    if as_json:
        print_json([{"path": each.path, "done": each.done} for each in done])
        return
    for each in done:
        typer.echo(f"{each.done}: {each.path}")
    typer.echo(f"{sum(each.is_new for each in done)} of {len(done)} files copied to {target}")
