"""Progress of a freeze on stderr: a bar on a terminal, a line for each stage elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runner.engines.events import Event, StageStarted, TraceSeen
from runner.freeze import Listen
from runner.order import WorkOrder


@contextmanager
def show_freezing(
    orders: Sequence[WorkOrder], seconds: float, console: Console | None = None
) -> Iterator[Listen]:
    """Show how many cases of ``orders`` are frozen, and about how many ``seconds`` it takes."""
    console = console or Console(stderr=True, highlight=False)
    planned = sum(len(_cases(order)) for order in orders)
    names = ", ".join(dict.fromkeys(f"{o.model.name}/{o.variant.name}" for o in orders))
    suites = sum(len(order.cells) for order in orders)
    text = f"references of {names}: {planned} cases of {suites} suites, about {duration(seconds)}"
    console.print(text, markup=False, soft_wrap=True)
    if not console.is_terminal:
        yield _Log(console, planned)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("cases"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar, planned)


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``40 s``, ``2 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cases(order: WorkOrder) -> list[str]:
    every = [case.id for cell in order.cells for case in cell.suite.cases]
    return [case for case in every if not order.only_cases or case in order.only_cases]


class _Counted:
    """The cases that have a trace, and the stage that is worked on."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str, str]] = set()
        self.stage = "load"

    @property
    def done(self) -> int:
        return len(self._seen)

    def hear(self, order: WorkOrder, event: Event) -> bool:
        """Note an event; return whether a stage began."""
        if isinstance(event, TraceSeen):
            self._seen.add((order.variant.name, event.cell_id, event.trace.case_id))
        if not isinstance(event, StageStarted):
            return False
        began, self.stage = event.stage != self.stage, event.stage
        return began


class _Log:
    def __init__(self, console: Console, planned: int) -> None:
        self._console, self._planned, self._counted = console, planned, _Counted()
        self._clock = time.monotonic()

    def __call__(self, order: WorkOrder, event: Event) -> None:
        if self._counted.hear(order, event):
            head = f"[{time.monotonic() - self._clock:7.1f} s]"
            text = f"{head} [{self._counted.done}/{self._planned}] {_what(order, self._counted)}"
            self._console.print(text, markup=False, soft_wrap=True)


class _Bar:
    def __init__(self, bar: Progress, planned: int) -> None:
        self._bar, self._counted = bar, _Counted()
        self._task = bar.add_task("starting", total=planned)

    def __call__(self, order: WorkOrder, event: Event) -> None:
        self._counted.hear(order, event)
        what = _what(order, self._counted)
        self._bar.update(self._task, completed=self._counted.done, description=what)


def _what(order: WorkOrder, counted: _Counted) -> str:
    return f"freeze {order.model.name}/{order.variant.name} · {counted.stage}"
