"""Progress of a run on stderr: a bar on a terminal, one line for each event elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.running.orders import PlacedOrder
from runner.supervisor import Outcome


class ProgressListener(Protocol):
    """Receives the events of a dispatch."""

    def started(self, placed: PlacedOrder) -> None:
        """An order was given to its node."""

    def ended(self, placed: PlacedOrder, outcomes: list[Outcome]) -> None:
        """The attempts of an order ended."""


@contextmanager
def show_progress(cells: int, console: Console | None = None) -> Iterator[ProgressListener]:
    """Show the progress of ``cells`` cells on stderr: a bar on a terminal, else lines."""
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Log(console, cells)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cells"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, cells)


class _Log:
    """One line for each event, with the seconds since the start."""

    def __init__(self, console: Console, cells: int) -> None:
        self._console, self._cells, self._done = console, cells, 0
        self._clock = time.monotonic()

    def started(self, placed: PlacedOrder) -> None:
        attempt = placed.order.attempt
        again = f" (attempt {attempt})" if attempt > 1 else ""
        self._say(f"start  {placed.title}{again}")

    def ended(self, placed: PlacedOrder, outcomes: list[Outcome]) -> None:
        self._done += len(outcomes)
        suites = {c.cell_id: c.suite.name for c in placed.order.cells}
        for outcome in outcomes:
            suite = suites.get(outcome.cell_id, outcome.cell_id)
            self._say(f"{_ending(outcome)}  {placed.title} · {suite}{_why(outcome)}")

    def _say(self, text: str) -> None:
        seconds = time.monotonic() - self._clock
        head = f"[{seconds:7.1f} s] [{self._done}/{self._cells}]"
        self._console.print(f"{head} {text}", markup=False, soft_wrap=True)


class _Bar:
    """A bar with what is running now; failures are printed above it."""

    def __init__(self, bar: Progress, cells: int) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=cells)
        self._running: dict[int, str] = {}

    def started(self, placed: PlacedOrder) -> None:
        self._running[id(placed)] = placed.title
        self._show()

    def ended(self, placed: PlacedOrder, outcomes: list[Outcome]) -> None:
        self._running.pop(id(placed), None)
        self._bar.advance(self._task, sum(o.status == "ok" for o in outcomes))
        for outcome in outcomes:
            if outcome.status != "ok":
                line = f"{_ending(outcome)}  {placed.title}{_why(outcome)}"
                self._bar.console.print(line, markup=False, soft_wrap=True)
        self._show()

    def _show(self) -> None:
        now = list(self._running.values())
        more = f" (+{len(now) - 1})" if len(now) > 1 else ""
        self._bar.update(self._task, description=f"{now[0]}{more}" if now else "waiting")


def _ending(outcome: Outcome) -> str:
    return f"{outcome.status:<7} {outcome.duration_s:6.1f} s"


def _why(outcome: Outcome) -> str:
    if outcome.status == "ok":
        return ""
    stage = f" at {outcome.stage_reached}" if outcome.stage_reached else ""
    first, *more = (outcome.error or "no error given").splitlines()
    return f"{stage}: {' '.join([first, *(m.strip() for m in more)])}"
