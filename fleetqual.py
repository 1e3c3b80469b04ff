"""The front door: the ``fleetqual`` command, one verb a line.

Rooms are imported by the verb that needs them, so that ``--help`` answers at once.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from suites.errors import UserError

if TYPE_CHECKING:
    from cluster.plan import Plan

QUALIFIED, DIVERGED, USAGE, UNJUDGED = 0, 1, 2, 3
#: What Typer makes of Ctrl-C.
INTERRUPTED = 130

app = typer.Typer(
    name="fleetqual",
    help="Qualify LLM inference across a hardware fleet: which combination diverges from the "
    "reference, at which stage of the chain, and how sure that is.",
    epilog="Exit codes: 0 all qualified, 1 something diverged, 2 usage or configuration, "
    "3 could not judge.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
reference = typer.Typer(
    help="Freeze, measure, show and verify what counts as truth.", no_args_is_help=True
)
app.add_typer(reference, name="reference")
engine = typer.Typer(
    help="Install, list and remove engines, each version in an environment of its own.",
    no_args_is_help=True,
)
app.add_typer(engine, name="engine")


def _results_root(given: str) -> str:
    """Refuse a results root that cannot be a folder, before anything is made in it."""
    path = Path(os.path.abspath(given.removeprefix("file://")))
    if "://" in given and not given.startswith("file://"):
        return given
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir():
        raise UserError(
            f"{existing} is a file, not a folder",
            where="--results",
            fix="give a folder (it may not be there yet) or a URI",
        )
    return given


Matrix = Annotated[Path, typer.Argument(metavar="MATRIX", help="The matrix file.")]
Results = Annotated[
    str,
    typer.Option(
        "--results",
        envvar="FLEETQUAL_RESULTS",
        help="Results root: a folder or a URI.",
        callback=_results_root,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Only = Annotated[
    str | None,
    typer.Option(help="Part of the plan: key=value,… over its columns, case and stage."),
]
Tier = Annotated[int | None, typer.Option(min=1, max=3, help="Skip suites above this tier.")]
Address = Annotated[
    str,
    typer.Option(
        envvar="FLEETQUAL_ADDRESS", help="Ray cluster HOST:PORT; local starts a private one."
    ),
]
Run = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run id; the latest if left out.")]


@app.command()
def doctor(results: Results = "results", as_json: Json = False) -> None:
    """This machine: hardware, engines, what is missing and the command that adds it."""
    from cluster.doctor import examine

    findings = [f.model_dump() for f in examine(results)]
    if as_json:
        _print_json(findings)
        return
    mark = {True: "ok", False: "–"}
    rows = [[f["kind"], f["name"], mark[f["ok"]], f["value"], f["where"]] for f in findings]
    _print_table(["", "what", "", "found", "where"], rows)
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
    from cluster.run import plan_matrix

    made = plan_matrix(matrix, only, tier, address)
    if as_json:
        rows = [row.model_dump(mode="json") for row in made.rows("")]
        _print_json([{k.rstrip("_"): v for k, v in row.items() if k != "run_id"} for row in rows])
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
    from cluster.run import Request, run_matrix

    ran = run_matrix(
        Request(
            matrix=matrix,
            results=results,
            run_id=run_id,
            resume=resume,
            address=address,
            only=only,
            tier=tier,
        )
    )
    from analysis.check import check as print_check
    from analysis.judge import judge
    from analysis.report import write_report

    judge(results, ran.run_id)
    code = print_check(results, ran.run_id, junit=None, as_json=as_json)
    written = write_report(results, ran.run_id, None)
    typer.echo(f"run {ran.run_id} · report {written}", err=as_json)
    raise typer.Exit(code)


@app.command()
def check(
    run_id: Run = None,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML here.")] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """The verdicts; the exit code says whether all cells qualified."""
    from analysis.check import check as print_check

    raise typer.Exit(print_check(results, run_id, junit=junit, as_json=as_json))


@app.command()
def explain(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="Cell id, or the beginning of one.")],
    case: Annotated[str | None, typer.Option(help="Only this case.")] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", help="Run id; the latest if left out.")
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """The evidence side by side, and the command that reproduces it."""
    from analysis.explain import explain as print_evidence

    raise typer.Exit(print_evidence(results, cell, run_id=run_id, case=case, as_json=as_json))


@app.command()
def report(
    run_id: Run = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.")] = None,
    results: Results = "results",
) -> None:
    """One self-contained HTML page."""
    from analysis.report import write_report

    typer.echo(str(write_report(results, run_id, out)))


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="SQL; asked for if left out.")
    ] = None,
    results: Results = "results",
    as_json: Json = False,
) -> None:
    """Read-only DuckDB over tables and views."""
    from analysis.query import run_sql

    raise typer.Exit(run_sql(results, query, as_json=as_json))


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
    from analysis.selftest import assess
    from analysis.selftest_told import Made, tell, write_markdown
    from analysis.selftest_told import markdown as page
    from cluster.selftest import asked_in_part, base_of, choose, not_run, run_faults, runnable
    from suites.fault_catalogue import CATALOGUE, HELD_OUT, SERVERS

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
    from analysis.clean import alarms_of, tell_alarms
    from cluster.clean import run_clean

    started = time.monotonic()
    with TemporaryDirectory(prefix="fleetqual-clean-") as folder:
        ran = [r.run_id for r in run_clean(matrix, results, cells, Path(folder))]
    found = alarms_of(results, ran, time.monotonic() - started)
    tell_alarms(found, as_json=as_json)
    return found.exit_code


@reference.command("freeze")
def freeze_reference(
    matrix: Matrix,
    out: Annotated[
        str | None, typer.Option(help="Reference root; references/ of the results if left out.")
    ] = None,
    results: Results = "results",
) -> None:
    """Make the truth with the matrix's reference engine, with where it came from."""
    from cluster.reference import freeze_orders, roots
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
    from analysis.floors import floor_rows
    from cluster.benign import benign_matrices, require_all
    from cluster.reference import copy_references, roots
    from cluster.run import Request, run_matrix
    from runner.freeze import write_floor

    target = out or roots(results)[0]
    with TemporaryDirectory(prefix="fleetqual-floors-") as folder:
        # A root of its own: these runs are no qualification and must not become the latest one.
        evidence = f"{folder}/results"
        copy_references(target, f"{evidence}/references")
        for benign in benign_matrices(matrix, Path(folder)):
            ran = run_matrix(Request(matrix=benign, results=evidence, only="stage=logits"))
            require_all(ran)
            floors = groupby(floor_rows(evidence, ran.run_id), key=lambda row: row.floor_id)
            for _, rows in floors:
                typer.echo(write_floor(list(rows), target))


@reference.command("show")
def show_reference(results: Results = "results", as_json: Json = False) -> None:
    """The frozen references that a run would use."""
    from cluster.reference import roots
    from runner.freeze import show

    rows = show(roots(results))
    if as_json:
        _print_json(rows)
    elif rows:
        _print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        typer.echo("no references yet: make some with `fleetqual reference freeze MATRIX`")


@reference.command("verify")
def verify_reference(results: Results = "results", as_json: Json = False) -> None:
    """Check that the frozen references are whole and unchanged."""
    from cluster.reference import roots
    from runner.freeze import verify

    problems = verify(roots(results))
    if as_json:
        _print_json(problems)
    else:
        for problem in problems:
            typer.echo(problem, err=True)
        typer.echo(f"{len(problems)} problems" if problems else "all references are intact")
    raise typer.Exit(UNJUDGED if problems else QUALIFIED)


@engine.command("install")
def install_engine(
    spec: Annotated[str, typer.Argument(metavar="ENGINE==VERSION", help="What to install.")],
    backend: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, rocm or metal; what this machine has if left out."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Make it anew where it was made otherwise.")
    ] = False,
) -> None:
    """Install an engine in an environment of its own."""
    from cluster.engine_install import NotInstalled, install

    try:
        typer.echo(install(spec, backend, replace=replace))
    except NotInstalled as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(UNJUDGED) from error


@engine.command("list")
def list_engines(as_json: Json = False) -> None:
    """The environments of engines on this machine."""
    from cluster.engine_list import environments
    from cluster.environments import environments_root

    found = [e.model_dump(mode="json") for e in environments()]
    if as_json:
        _print_json(found)
    elif found:
        columns = ["engine", "version", "backend", "serving", "packages", "size", "state", "where"]
        size = [f"{e['size'] / 2**20:,.0f} MiB" for e in found]
        shown = [
            {**e, "serving": ", ".join(e["serving"]), "size": s}
            for e, s in zip(found, size, strict=True)
        ]
        _print_table(columns, [[e[column] for column in columns] for e in shown])
    else:
        typer.echo(f"no environments in {environments_root()}; `fleetqual doctor` shows how to add")


@engine.command("stages")
def show_stages(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the documentation's tables.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Which stage of which engine is seen how, and through which call."""
    from cluster import support

    found = [row.model_dump(mode="json") for row in support.stages()]
    if markdown:
        typer.echo(support.markdown(), nl=False)
    elif as_json:
        _print_json(found)
    else:
        _print_table(list(support.Seen.model_fields), [list(row.values()) for row in found])


@engine.command("remove")
def remove_engine(
    spec: Annotated[str, typer.Argument(metavar="ENGINE==VERSION", help="What to remove.")],
) -> None:
    """Remove an engine's environment, at once."""
    from cluster.engine_list import remove

    gone = remove(spec)
    version, size = gone.version or "of unknown version", gone.size / 2**20
    typer.echo(f"removed {gone.engine} {version}: {gone.where} ({size:,.0f} MiB)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit by the contract; a mistake is one message, never a traceback."""
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        return USAGE
    except Exception as error:
        # Errors of usage come from Typer's private copy of click: they are known by their shape.
        show = getattr(error, "show", None)
        if show is None or not hasattr(error, "format_message"):
            return _unforeseen(error)
        show()
        return USAGE
    except SystemExit:
        # Typer leaves with 1 when nobody reads its output any more: that is no verdict.
        return UNJUDGED
    if code == INTERRUPTED:
        typer.echo("stopped; an unfinished run goes on with `fleetqual run … --resume`", err=True)
    return code if isinstance(code, int) else QUALIFIED


def _unforeseen(error: Exception) -> int:
    """Tell a fault of our own in one line: exit code 1 would claim that something diverged."""
    if os.environ.get("FLEETQUAL_DEBUG") == "1":
        traceback.print_exception(error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    hint = "FLEETQUAL_DEBUG=1 shows where; an unfinished run goes on with --resume"
    typer.echo(f"error: could not go on: {text[:500]} ({hint})", err=True)
    return UNJUDGED


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
    _print_table(columns, pairs)
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
        _print_table(columns, skips)
    cells = len({p.cell.cell_id for p in made.pairs})
    typer.echo(
        f"{cells} cells, {len(pairs)} on nodes, {len(skips)} skipped, about {made.seconds:.0f} s"
    )


def _print_table(columns: list[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    if console.is_terminal:
        console.print(table)
    else:
        # A log or pipe has no width of its own: nothing may be cut short there.
        Console(width=10_000).print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


if __name__ == "__main__":
    main()
