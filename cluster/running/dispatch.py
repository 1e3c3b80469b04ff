"""Dispatch: work orders onto Ray, one task each, until every order has an outcome.

Nothing here waits for ever: a task that its node never starts or never ends is ``lost`` at its
deadline, and so is a task whose node dies. Ray's own retries are off, so that every attempt counts.
"""

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.running.live_nodes import LiveNodes
from cluster.running.node_room import has_room
from cluster.running.on_node import Execute, record_unrun_attempts, run_on_node
from cluster.running.orders import PlacedOrder
from cluster.running.progress import ProgressListener
from runner.supervisor import Outcome, execute
from suites.errors import UserError
from suites.loading import SHIPPED

WINDOW = 200
_POLL_S = 1.0
_INTERRUPT_S = 5.0


@dataclass(frozen=True)
class DispatchOptions:
    """How a run is dispatched."""

    results: str
    """Results root, absolute or a URI, as every node reaches it."""
    tries: int = 1
    """Attempts at a pair until one is ok; lost ones do not count."""
    grace_s: float = 90.0
    """Seconds beyond an order's own deadline for placing it, starting a worker and writing."""
    window: int = WINDOW
    """Most tasks in flight."""
    cpu_slots: int = 1
    """Untimed children that compute on one node's CPU at once; each should use one thread."""
    execute: Execute = execute
    """The supervisor."""


def dispatch(
    orders: Sequence[PlacedOrder], options: DispatchOptions, listener: ProgressListener
) -> list[Outcome]:
    """Run all orders on the connected Ray cluster; return the outcome of every attempt.

    Raises:
        UserError: the connection to Ray broke; finished work stays, and the run can be resumed.
    """
    return _Dispatcher(orders, options, listener).run()


@dataclass(frozen=True)
class _Flight:
    """An order that was handed to Ray."""

    placed: PlacedOrder
    started: dt.datetime
    ends: float
    """Deadline on the monotonic clock."""


class _Dispatcher:
    """The orders that wait, those in flight, and the outcomes so far."""

    def __init__(
        self, orders: Sequence[PlacedOrder], options: DispatchOptions, listener: ProgressListener
    ) -> None:
        import ray

        self._options, self._listener = options, listener
        self._queue = list(orders)
        self._flights: dict[Any, _Flight] = {}
        self._outcomes: list[Outcome] = []
        self._live_nodes = LiveNodes()
        self._task: Any = ray.remote(num_cpus=1, max_retries=0)(run_on_node)

    def run(self) -> list[Outcome]:
        """Run all orders to their end."""
        import ray

        with self._no_task_left_behind():
            while self._queue or self._flights:
                self._submit()
                self._end_orders_of_dead_nodes()
                if not self._flights:
                    self._end_orders_without_room()
                    continue
                soonest = min(f.ends for f in self._flights.values()) - time.monotonic()
                wait_s = max(0.0, min(_POLL_S, soonest))
                try:
                    ready, _ = ray.wait(list(self._flights), timeout=wait_s)
                except ray.exceptions.RayError as error:
                    raise UserError(
                        f"the connection to Ray broke: {error}",
                        fix="run the same command again with --resume",
                    ) from error
                for ref in ready:
                    self._collect(ref)
                self._end_late_orders()
        return self._outcomes

    def _submit(self) -> None:
        """Hand out only what a node can start at once: an order that waits for a place would use
        up its deadline."""
        waiting: list[PlacedOrder] = []
        for placed in self._queue:
            if not self._live_nodes.has(placed):
                error = f"node {placed.node.id} left the cluster before this could start"
                self._end(placed, self._lost(placed, error), retry=False)
            elif len(self._flights) >= self._options.window or not self._fits(placed):
                waiting.append(placed)
            else:
                self._start(placed)
        self._queue = waiting

    def _start(self, placed: PlacedOrder) -> None:
        task_options: dict[str, Any] = {
            "label_selector": placed.node.selector,
            "name": placed.title,
            "num_gpus": 1 if placed.takes_accelerator else 0,
        }
        self._listener.started(placed)
        own = self._options
        ref = self._task.options(**task_options).remote(
            own.execute, placed.order, own.results, placed.device, str(SHIPPED)
        )
        ends = time.monotonic() + placed.order.deadline_s + own.grace_s
        self._flights[ref] = _Flight(placed, dt.datetime.now(dt.UTC), ends)

    def _fits(self, placed: PlacedOrder) -> bool:
        running = [flight.placed for flight in self._flights.values()]
        return has_room(placed, running, self._options.cpu_slots)

    def _collect(self, ref: Any) -> None:
        import ray

        flight, died = self._flights.pop(ref), False
        placed = flight.placed
        try:
            outcomes = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            # The supervisor never raises for an engine: its own code or the results root failed.
            text = f"the supervisor failed on {placed.node.id}: {error.cause!r}"[:500]
            outcomes = record_unrun_attempts(
                placed.order, self._options.results, "error", text, flight.started
            )
        except ray.exceptions.RayError as error:
            first = str(error).strip().partition("\n")[0].partition(". ")[0]
            text = f"node {placed.node.id}: {type(error).__name__}: {first}"[:500]
            outcomes = self._lost(placed, text, flight.started)
            died = isinstance(error, ray.exceptions.NodeDiedError)
        self._end(placed, outcomes, retry=not died)

    def _end_late_orders(self) -> None:
        now = time.monotonic()
        for ref, flight in [item for item in self._flights.items() if item[1].ends <= now]:
            self._cancel(ref)
            seconds = flight.placed.order.deadline_s + self._options.grace_s
            error = f"no answer from node {flight.placed.node.id} within {seconds:g} s"
            self._end(flight.placed, self._lost(flight.placed, error, flight.started))

    def _end_orders_of_dead_nodes(self) -> None:
        for ref, flight in list(self._flights.items()):
            if not self._live_nodes.has(flight.placed):
                self._cancel(ref)
                error = f"node {flight.placed.node.id} left the cluster while this ran"
                outcomes = self._lost(flight.placed, error, flight.started)
                self._end(flight.placed, outcomes, retry=False)

    def _end_orders_without_room(self) -> None:
        """End orders that do not fit although nothing runs: they would wait for ever."""
        stuck = [placed for placed in self._queue if not self._fits(placed)]
        self._queue = [placed for placed in self._queue if self._fits(placed)]
        for placed in stuck:
            backend = placed.order.backend
            error = f"node {placed.node.id} has no room for {backend} work even when idle"
            self._end(placed, self._lost(placed, error), retry=False)

    def _lost(
        self, placed: PlacedOrder, error: str, started: dt.datetime | None = None
    ) -> list[Outcome]:
        return record_unrun_attempts(placed.order, self._options.results, "lost", error, started)

    def _end(self, placed: PlacedOrder, outcomes: list[Outcome], *, retry: bool = True) -> None:
        """Keep an order's outcomes; cells that are not ok are queued again while tries are left.

        A lost attempt says nothing about the engine, so it uses up no try. But one run loses an
        order at most ``tries`` times, so that the run ends.
        """
        self._outcomes += outcomes
        self._listener.ended(placed, outcomes)
        if not retry:
            return
        tries = self._options.tries
        lost = [outcome.cell_id for outcome in outcomes if outcome.status == "lost"]
        failed = [o.cell_id for o in outcomes if o.status not in ("ok", "lost")]
        if failed and placed.tried + 1 < tries:
            self._queue.append(placed.again(failed, tried=placed.tried + 1))
        if lost and placed.lost + 1 < tries:
            self._queue.append(placed.again(lost, lost=placed.lost + 1))

    def _cancel(self, ref: Any) -> None:
        import ray

        ray.cancel(ref, force=True)
        del self._flights[ref]

    @contextmanager
    def _no_task_left_behind(self) -> Iterator[None]:
        """Cancel all tasks when the driver is interrupted: first politely, then by force."""
        import ray

        try:
            yield
        finally:
            refs = list(self._flights)
            for force in (False, True):
                for ref in refs:
                    ray.cancel(ref, force=force)
                if refs:
                    _, refs = ray.wait(refs, num_returns=len(refs), timeout=_INTERRUPT_S)
