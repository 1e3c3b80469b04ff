"""This machine, plans and runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from fleetqual.commands.app import Address, Json, Matrix, Only, Results, Tier, app
from fleetqual.commands.output import print_json, print_table

if TYPE_CHECKING:
    from cluster.planning.plan import Plan


@app.command()
def doctor(results: Results = "results", as_json: Json = False) -> None:
    """This machine: hardware, engines, what is missing and the command that adds it."""
    from cluster.environments.doctor import examine

    findings = [f.model_dump() for f in examine(results)]
    if as_json:
        print_json(findings)
        return
    mark = {True: "ok", False: "–"}
    rows = [[f["kind"], f["name"], mark[f["ok"]], f["value"], f["where"]] for f in findings]
    print_table(["", "what", "", "found", "where"], rows)
    for finding in findings:
        if finding["fix"]:
            typer.echo(f"{finding['name']}: {finding['value']}. To mend: {finding['fix']}")


@app.command()
def plan(
    matrix: Matrix,
    only: Only = None,
    tier: Tier = None,
    address: Address = "local",
    as_json: Json = False,
) -> None:
    """Cells × nodes, skips with reasons, estimated time."""
    from cluster.running.run import plan_matrix

    made = plan_matrix(matrix, only, tier, address)
    if as_json:
        rows = [row.model_dump(mode="json") for row in made.rows("")]
        print_json([{k.rstrip("_"): v for k, v in row.items() if k != "run_id"} for row in rows])
        return
    _show_plan(made)


@app.command()
def run(
    matrix: Matrix,
    results: Results = "results",
    run_id: Annotated[str | None, typer.Option(help="Name of the run; made if left out.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with --run-id, or the latest unfinished run.")
    ] = False,
    address: Address = "local",
    only: Only = None,
    tier: Tier = None,
    as_json: Json = False,
) -> None:
    """Run the matrix, judge it, print the verdicts and the path of the report."""
    from cluster.running.run import RunOptions, run_matrix

    ran = run_matrix(
        RunOptions(
            matrix=matrix,
            results=results,
            run_id=run_id,
            resume=resume,
            address=address,
            only=only,
            tier=tier,
        )
    )
    from analysis.judging.judge import judge
    from analysis.showing.check import check as print_check
    from analysis.showing.report import write_report

    judge(results, ran.run_id)
    code = print_check(results, ran.run_id, junit=None, as_json=as_json)
    written = write_report(results, ran.run_id, None)
    typer.echo(f"run {ran.run_id} · report {written}", err=as_json)
    raise typer.Exit(code)


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
