"""``fleetqual selftest``: known faults, and clean cells."""

from pathlib import Path
from typing import Annotated

import typer

from fleetqual.commands.app import Json, Results, app


@app.command()
def selftest(
    matrix: Annotated[
        Path | None,
        typer.Argument(
            metavar="MATRIX",
            help="Use only the engines and suites of this matrix. Default: the weekly matrix.",
        ),
    ] = None,
    results: Results = "results",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="ID",
            help="Inject only this fault; ID@STRENGTH is one strength of a sweep. The option can "
            "be repeated.",
        ),
    ] = None,
    held_out: Annotated[
        bool,
        typer.Option("--held-out", help="Inject the faults that no detector was developed with."),
    ] = False,
    servers: Annotated[
        bool,
        typer.Option("--servers", help="Inject only faults of proxies in front of servers."),
    ] = False,
    minimal: Annotated[
        bool,
        typer.Option("--minimal", help="Also show the cheapest cases that detect all faults."),
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page in Markdown instead of a table.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Also write the page to this file."),
    ] = None,
    clean: Annotated[
        int | None,
        typer.Option(
            "--clean",
            min=1,
            metavar="N",
            help="Inject nothing: qualify N cells without a fault and count false alarms.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Inject known faults and show which are found.

    A fault is found if a cell diverges, and it is placed if the right stage is blamed."""
    from fleetqual.selftest.false_alarms import print_alarms
    from fleetqual.selftest.page import page, print_selftest, write_page
    from fleetqual.selftest.run import SelftestOptions, own_results, run_clean_cells, run_selftest

    own = own_results(results)
    if clean is not None:
        alarms = run_clean_cells(matrix, own, clean)
        print_alarms(alarms, as_json=as_json)
        raise typer.Exit(alarms.exit_code)
    found, made = run_selftest(
        SelftestOptions(
            matrix=matrix,
            results=own,
            faults=tuple(fault or ()),
            held_out=held_out,
            servers=servers,
            markdown=markdown,
            out=out,
        )
    )
    if out is not None:
        write_page(found, made, out)
    if markdown:
        typer.echo(page(found, made), nl=False)
    else:
        print_selftest(found, made, own, as_json=as_json, minimal=minimal)
    raise typer.Exit(found.exit_code)
