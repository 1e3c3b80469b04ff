"""Results of runs: verdicts, evidence, the report and SQL."""

from pathlib import Path
from typing import Annotated

import typer

from fleetqual.commands.app import Address, Json, Results, Run, app
from suites.errors import UserError


@app.command()
def check(
    run_id: Run = None,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the verdicts to this file as JUnit XML."),
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Print the verdicts of a run.

    Exit codes: 0 all cells are qualified; 1 something diverged, or an unexpected pass; 3 something
    could not be judged."""
    from analysis.showing.check import check as print_check

    raise typer.Exit(print_check(results, run_id, junit=junit, as_json=as_json))


@app.command()
def explain(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="Cell id, or the beginning of one.")],
    case: Annotated[str | None, typer.Option(metavar="ID", help="Show only this case.")] = None,
    reproduce: Annotated[
        bool,
        typer.Option(
            "--reproduce",
            help="Run the case of --case again, apart from all results, and compare it.",
        ),
    ] = False,
    address: Address = "local",
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Run id. Default: the latest run.")
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Show the evidence for a cell.

    It prints expected and observed output side by side, and the command that reproduces it. With
    --reproduce: exit code 1 if the case differs again, 0 if it agrees now."""
    if reproduce:
        from fleetqual.reproduce import reproduce as run_again

        if case is None:
            raise UserError("no case is named", where="--reproduce", fix="add --case ID")
        code = run_again(results, cell, case, run_id=run_id, address=address, as_json=as_json)
        raise typer.Exit(code)
    from analysis.showing.explain import explain as print_evidence

    raise typer.Exit(print_evidence(results, cell, run_id=run_id, case=case, as_json=as_json))


@app.command()
def report(
    run_id: Run = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write. Default: in the run's folder."
        ),
    ] = None,
    results: Results = "results",
) -> None:
    """Write the report of a run.

    It is one HTML page that needs no other file. The command prints its path."""
    from analysis.showing.report import write_report

    typer.echo(str(write_report(results, run_id, out)))


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="SQL query. Default: a prompt.")
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Query all runs with SQL.

    The tables and views are read-only (DuckDB). Without a query, there is a prompt."""
    from analysis.showing.sql import run_sql

    raise typer.Exit(run_sql(results, query, as_json=as_json))
