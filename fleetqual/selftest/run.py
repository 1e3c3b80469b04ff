"""One self-test from options to findings: choose faults, run them, judge them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fleetqual.selftest.assess import assess
from fleetqual.selftest.base_matrix import base_matrix
from fleetqual.selftest.catalogue import CATALOGUE, HELD_OUT, SERVERS
from fleetqual.selftest.chosen_faults import choose, not_run, run_without_suites, runnable
from fleetqual.selftest.clean_matrices import run_clean
from fleetqual.selftest.false_alarms import Alarms, alarms_of
from fleetqual.selftest.findings import Assessment, SelftestRun
from fleetqual.selftest.matrices import run_faults


@dataclass(frozen=True)
class SelftestOptions:
    """The options of ``fleetqual selftest``."""

    matrix: Path | None
    """Its engines and suites are used; those of the shipped weekly matrix when None."""
    results: str
    """Results root of the runs."""
    faults: Sequence[str] = ()
    """Ids of faults; all of the catalogues when empty."""
    held_out: bool = False
    servers: bool = False
    markdown: bool = False
    out: Path | None = None
    """Where the page is written."""

    @property
    def catalogues(self) -> tuple[Path, ...]:
        """The catalogues from which faults are chosen."""
        if self.held_out:
            return (HELD_OUT,)
        return (SERVERS,) if self.servers else (CATALOGUE, SERVERS)

    @property
    def command(self) -> str:
        """The command that makes the same page, without absolute paths of this machine."""
        flags = {
            "--held-out": self.held_out,
            "--servers": self.servers,
            "--markdown": self.markdown,
        }
        words = ["fleetqual selftest", *([_portable(self.matrix)] if self.matrix else ())]
        words += [f"--fault {name}" for name in self.faults]
        words += [flag for flag, given in flags.items() if given]
        return " ".join(words + ([f"-o {_portable(self.out)}"] if self.out else []))


def own_results(results: str) -> str:
    """Return the results root of self-tests: their runs must not become the latest of ``results``,
    because they qualify nothing."""
    return f"{results.rstrip('/')}/selftest"


def run_selftest(options: SelftestOptions) -> tuple[Assessment, SelftestRun]:
    """Inject the chosen faults, run and judge them; return the findings and how they were made.

    Raises:
        UserError: a catalogue, a fault or the matrix is wrong.
    """
    started, base = time.monotonic(), base_matrix(options.matrix)
    chosen = choose(options.catalogues, options.faults)
    faults = runnable(chosen, base)
    with TemporaryDirectory(prefix="fleetqual-selftest-") as folder:
        runs = [run.run_id for run in run_faults(faults, base, options.results, Path(folder))]
    found = assess(options.results, runs, faults)
    return found, SelftestRun(
        command=options.command,
        seconds=time.monotonic() - started,
        held_out=options.held_out,
        not_run=not_run(chosen, base),
        without_suites=run_without_suites(chosen, base),
    )


def run_clean_cells(matrix: Path | None, results: str, cells: int) -> Alarms:
    """Run and judge cells without a fault in benign configurations; return those that alarmed."""
    started = time.monotonic()
    with TemporaryDirectory(prefix="fleetqual-clean-") as folder:
        runs = [run.run_id for run in run_clean(matrix, results, cells, Path(folder))]
    return alarms_of(results, runs, time.monotonic() - started)


def _portable(path: Path) -> str:
    """Return a path relative to the working directory if it is beneath it, else its name."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else path.name
