"""This machine, plans and runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleetqual.commands.app import Address, Json, Matrix, Only, Results, Tier, app
from fleetqual.commands.output import print_json, print_table

if TYPE_CHECKING:
    from cluster.planning.plan import Plan


@app.command()
def doctor(results: Results = "results", as_json: Json = False) -> None:
    """Check this machine and its engines.

    It prints the hardware, the engines, what is missing, and the command that fixes it."""
    from cluster.environments.doctor import check_machine

    checks = [c.model_dump() for c in check_machine(results)]
    if as_json:
        print_json(checks)
        return
    mark = {True: "ok", False: "–"}
    rows = [[c["kind"], c["name"], mark[c["ok"]], c["value"], c["where"]] for c in checks]
    print_table(["kind", "name", "ok", "found", "where"], rows)
    for check in checks:
        if check["fix"]:
            typer.echo(f"{check['name']}: {check['value']}. Fix: {check['fix']}")


@app.command()
def plan(
    matrix: Matrix,
    results: Results = "results",
    only: Only = None,
    tier: Tier = None,
    address: Address = "local",
    as_json: Json = False,
) -> None:
    """Show what would run where.

    It prints the cells for each node, what is skipped and why, which references and floors are
    missing, and the estimated time."""
    from cluster.running.run import plan_matrix

    made = plan_matrix(matrix, only, tier, address)
    if as_json:
        rows = [row.model_dump(mode="json") for row in made.rows("")]
        print_json([{k.rstrip("_"): v for k, v in row.items() if k != "run_id"} for row in rows])
        return
    _show_plan(made)
    from cluster.planning.engine_notes import engine_notes
    from fleetqual.references import reference_notes

    # On a cluster, each node has engines of its own.
    for note in engine_notes(made) if address == "local" else ():
        typer.echo(f"note: {note}")
    for note in reference_notes(made, results):
        typer.echo(note)


@app.command()
def run(
    matrix: Matrix,
    results: Results = "results",
    run_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Id of the run. Default: the time and a random number."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run --run-id, or the latest unfinished run."),
    ] = False,
    address: Address = "local",
    only: Only = None,
    tier: Tier = None,
    no_reference: Annotated[
        bool,
        typer.Option(
            "--no-reference",
            help="Make no missing reference or floor: what has none is not judged.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a matrix and judge it.

    References and floors that are missing are made first. It prints the verdicts and the path of
    the report; exit codes as for `fleetqual check`."""
    from cluster.running.run import RunOptions
    from fleetqual.judged_run import run_and_judge
    from fleetqual.references import make_missing

    options = RunOptions(
        matrix=matrix,
        results=results,
        run_id=run_id,
        resume=resume,
        address=address,
        only=only,
        tier=tier,
        prepare=None if no_reference else make_missing,
    )
    raise typer.Exit(run_and_judge(options, as_json=as_json))


def _show_plan(made: "Plan") -> None:
    pairs = [
        [
            row.cell_id,
            row.suite,
            f"{row.model}/{row.variant}",
            row.engine,
            row.backend,
            row.pass_,
            row.node_id,
            row.hardware,
            f"{row.estimate_s:.0f} s" if row.estimate_s is not None else "",
        ]
        for row in made.rows("")
        if row.reason is None
    ]
    columns = ["cell", "suite", "variant", "engine", "backend", "pass", "node", "hardware", "time"]
    print_table(columns, pairs)
    skips = [
        [
            row.suite,
            f"{row.model}/{row.variant}",
            row.engine,
            row.backend,
            row.pass_,
            row.node_id,
            row.reason,
        ]
        for row in made.rows("")
        if row.reason is not None
    ]
    if skips:
        columns = ["skipped", "variant", "engine", "backend", "pass", "node", "reason"]
        print_table(columns, skips)
    cells = len({p.cell.cell_id for p in made.pairs})
    typer.echo(
        f"{cells} cells, {len(pairs)} on nodes, {len(skips)} skipped, about {made.seconds:.0f} s"
    )
