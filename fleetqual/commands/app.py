"""The command itself: its shared options, and how it ends with an exit code.

Each verb imports the rooms that it needs, so that ``--help`` answers at once.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from suites.errors import UserError
from suites.exit_codes import QUALIFIED, UNJUDGED, USAGE

#: Typer returns this code after Ctrl-C.
INTERRUPTED = 130

app = typer.Typer(
    name="fleetqual",
    help="Qualify LLM inference across a hardware fleet: show which combination of model, engine "
    "and hardware differs from the reference, at which stage, and how certain that is.",
    epilog="Exit codes: 0 all qualified, 1 something diverged, 2 wrong usage or configuration, "
    "3 something could not be judged.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
reference = typer.Typer(help="Make, show and verify references and floors.", no_args_is_help=True)
app.add_typer(reference, name="reference")
engine = typer.Typer(
    help="Install, list and remove engines. Each version has its own Python environment.",
    no_args_is_help=True,
)
app.add_typer(engine, name="engine")


def _results_root(given: str) -> str:
    """Refuse a results root that cannot be a folder before anything is written."""
    path = Path(os.path.abspath(given.removeprefix("file://")))
    if "://" in given and not given.startswith("file://"):
        return given
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir():
        raise UserError(
            f"{existing} is a file, not a folder",
            where="--results",
            fix="give a folder (a missing one is created) or a URI",
        )
    return given


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fleetqual {version('fleetqual')}")
        raise typer.Exit


@app.callback()
def _fleetqual(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


Matrix = Annotated[Path, typer.Argument(metavar="MATRIX", help="Matrix file (YAML).")]
Results = Annotated[
    str,
    typer.Option(
        "--results",
        envvar="FLEETQUAL_RESULTS",
        metavar="URI",
        help="Results root: a folder or a URI.",
        callback=_results_root,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="EXPR",
        help="Select a part of the plan: key=value,… The keys are the plan's columns, case and "
        "stage. Example: engine=vllm,case=parse/*",
    ),
]
Tier = Annotated[
    int | None,
    typer.Option(min=1, max=3, metavar="N", help="Skip suites whose tier (1 to 3) is above N."),
]
Address = Annotated[
    str,
    typer.Option(
        envvar="FLEETQUAL_ADDRESS",
        metavar="ADDR",
        help="Address of the Ray cluster (HOST:PORT). `local` runs on this machine only.",
    ),
]
Run = Annotated[str | None, typer.Argument(metavar="RUN", help="Run id. Default: the latest run.")]

#: Groups of verbs, in the order in which ``--help`` shows them.
_GROUPS = ("qualify", "plan_and_run", "results", "selftest", "reference", "engine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; an error is one message without a traceback."""
    sys.exit(_exit_code(arguments))


def with_all_verbs() -> typer.Typer:
    """Return the command after every group of verbs was added to it."""
    for group in _GROUPS:
        importlib.import_module(f"fleetqual.commands.{group}")
    return app


def _exit_code(arguments: Sequence[str] | None) -> int:
    try:
        code = with_all_verbs()(args=arguments, prog_name="fleetqual", standalone_mode=False)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        return USAGE
    except Exception as error:
        # Typer's usage errors come from its private copy of click, so their type is not importable.
        show = getattr(error, "show", None)
        if show is None or not hasattr(error, "format_message"):
            return _internal_error(error)
        show()
        return USAGE
    except SystemExit:
        # Typer exits with 1 when the reader of its output has gone: that is no verdict.
        return UNJUDGED
    if code == INTERRUPTED:
        typer.echo("interrupted; `fleetqual run … --resume` continues an unfinished run", err=True)
    return code if isinstance(code, int) else QUALIFIED


def _internal_error(error: Exception) -> int:
    """Print an error of fleetqual itself in one line; exit code 1 would mean a divergence."""
    if os.environ.get("FLEETQUAL_DEBUG") == "1":
        traceback.print_exception(error)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    hint = "set FLEETQUAL_DEBUG=1 for the traceback; `--resume` continues an unfinished run"
    typer.echo(f"error: internal error: {text[:500]} ({hint})", err=True)
    return UNJUDGED
