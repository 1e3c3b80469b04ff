"""The command itself: its options, exit codes and how a mistake ends.

Rooms are imported by the verb that needs them, so that ``--help`` answers at once.
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

#: Groups of verbs, in the order in which ``--help`` shows them.
_GROUPS = ("plan_and_run", "results", "selftest", "reference", "engine")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit by the contract; a mistake is one message, never a traceback."""
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    for group in _GROUPS:
        importlib.import_module(f"fleetqual.commands.{group}")
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
