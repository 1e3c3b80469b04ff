"""Results of runs: verdicts, evidence, the report and SQL."""

from pathlib import Path
from typing import Annotated

import typer

from fleetqual.commands.app import Json, Results, Run, app


@app.command()
def check(
    run_id: Run = None,
    junit: Annotated[
        Path | None, typer.Option(help="Also write the verdicts to this file as JUnit XML.")
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Print the verdicts; the exit code says whether all cells are qualified."""
    from analysis.showing.check import check as print_check

    raise typer.Exit(print_check(results, run_id, junit=junit, as_json=as_json))


@app.command()
def explain(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="Cell id, or the beginning of one.")],
    case: Annotated[str | None, typer.Option(help="Show only this case.")] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", help="Run id. Default: the latest run.")
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Show expected and observed output side by side, and the command that reproduces it."""
    from analysis.showing.explain import explain as print_evidence

    raise typer.Exit(print_evidence(results, cell, run_id=run_id, case=case, as_json=as_json))


@app.command()
def report(
    run_id: Run = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write. Default: in the run's folder."),
    ] = None,
    results: Results = "results",
) -> None:
    """Write the report: one HTML page that needs no other file."""
    from analysis.showing.report import write_report

    typer.echo(str(write_report(results, run_id, out)))


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="SQL query. Default: a prompt.")
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Query tables and views of all runs with SQL (DuckDB, read-only)."""
    from analysis.showing.sql import run_sql

    raise typer.Exit(run_sql(results, query, as_json=as_json))
