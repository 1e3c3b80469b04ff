"""The self-test and clean runs."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from fleetqual.commands.app import Json, Results, app


@app.command()
def selftest(
    matrix: Annotated[
        Path | None,
        typer.Argument(metavar="[MATRIX]", help="Narrows engines and suites; weekly if left out."),
    ] = None,
    results: Results = "results",
    fault: Annotated[
        list[str] | None, typer.Option("--fault", help="Only this one; may be repeated.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="The faults that no detector was built with.")
    ] = False,
    servers: Annotated[
        bool, typer.Option("--servers", help="Only those of gateways before servers.")
    ] = False,
    minimal: Annotated[
        bool, typer.Option("--minimal", help="Also the cheapest cases that detect all of it.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page instead.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the page here.")] = None,
    clean: Annotated[
        int | None, typer.Option("--clean", min=1, help="Qualify this many clean cells instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Inject known faults, show which are seen and where they are placed."""
    from fleetqual.selftest.catalogue import CATALOGUE, HELD_OUT, SERVERS
    from fleetqual.selftest.findings import assess
    from fleetqual.selftest.matrices import (
        asked_in_part,
        base_of,
        choose,
        not_run,
        run_faults,
        runnable,
    )
    from fleetqual.selftest.page import Made, tell, write_markdown
    from fleetqual.selftest.page import markdown as page

    # A root of its own: these runs are no qualification and must not become the latest one.
    own = f"{results.rstrip('/')}/selftest"
    if clean is not None:
        raise typer.Exit(_clean(matrix, own, clean, as_json))
    started, base = time.monotonic(), base_of(matrix)
    catalogues = (HELD_OUT,) if held_out else (SERVERS,) if servers else (CATALOGUE, SERVERS)
    chosen = choose(catalogues, fault or ())
    faults = runnable(chosen, base)
    with TemporaryDirectory(prefix="fleetqual-selftest-") as folder:
        ran = [r.run_id for r in run_faults(faults, base, own, Path(folder))]
    found = assess(own, ran, faults)
    flags = {"--held-out": held_out, "--servers": servers, "--markdown": markdown}
    made = Made(
        command=_selftest_command(matrix, fault or (), flags, out),
        seconds=time.monotonic() - started,
        held_out=held_out,
        not_run=not_run(chosen, base),
        asked_in_part=asked_in_part(chosen, base),
    )
    if out is not None:
        write_markdown(found, made, out)
    if markdown:
        typer.echo(page(found, made), nl=False)
    else:
        tell(found, made, own, as_json=as_json, minimal=minimal)
    raise typer.Exit(found.exit_code)


def _selftest_command(
    matrix: Path | None, faults: Sequence[str], flags: dict[str, bool], out: Path | None
) -> str:
    """Return what makes a self-test's page again, without the places of this machine."""
    words = ["fleetqual selftest", *([_placeless(matrix)] if matrix else ())]
    words += [f"--fault {name}" for name in faults]
    words += [flag for flag, given in flags.items() if given]
    return " ".join(words + ([f"-o {_placeless(out)}"] if out else []))


def _placeless(path: Path) -> str:
    """Return a path as it means the same on another machine: from here on, or the name alone."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else path.name


def _clean(matrix: Path | None, results: str, cells: int, as_json: bool) -> int:
    """Qualify clean cells in benign configurations and print how many alarmed."""
    from fleetqual.selftest.clean_matrices import run_clean
    from fleetqual.selftest.false_alarms import alarms_of, tell_alarms

    started = time.monotonic()
    with TemporaryDirectory(prefix="fleetqual-clean-") as folder:
        ran = [r.run_id for r in run_clean(matrix, results, cells, Path(folder))]
    found = alarms_of(results, ran, time.monotonic() - started)
    tell_alarms(found, as_json=as_json)
    return found.exit_code
