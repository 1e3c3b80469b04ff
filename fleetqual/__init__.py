"""The front door: the command, the self-test, and :func:`open`, which reads results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetqual.results import Results

__all__ = ["main", "open"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``fleetqual`` and exit with its exit code."""
    from fleetqual.commands.app import main as run_command

    run_command(arguments)


def open(results: str = "results", run: str | None = None) -> Results:  # noqa: A001 - read as fleetqual.open
    """Open results for reading: every table and view that ``fleetqual sql`` shows.

    ::

        import fleetqual

        with fleetqual.open("results") as results:
            found = results.sql("SELECT engine, stage, verdict FROM verdicts")
            found.to_pandas()  # or .to_pylist(); pandas must be installed for this one

    Args:
        results: results root: a folder or a URI.
        run: id of the only run to open, or its beginning, or ``latest``; None for all runs.

    Raises:
        suites.errors.UserError: there is no such run, or the runs are too large for the memory.
    """
    from fleetqual.results import Results

    return Results(results, run)
