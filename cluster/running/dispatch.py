"""Orders onto Ray, one task each, and what becomes of every one of them.

Nothing here waits without an end: a task that its node never starts, never ends or takes with it
ends as ``lost`` at its deadline. Retries are ours (Ray's are off), so that every attempt counts.
"""

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cluster.running.on_node import Execute, carry_out, record_unrun
from cluster.running.orders import PlacedOrder
from cluster.running.progress import Watcher
from runner.supervisor import Outcome, execute
from suites.errors import UserError
from suites.loading import SHIPPED

WINDOW = 200
_POLL_S = 1.0
_LIVENESS_S = 2.0
_INTERRUPT_S = 5.0
#: Options of the engines that say how many threads they take.
_THREADS = ("threads", "n_threads", "n_threads_batch")


@dataclass(frozen=True)
class Terms:
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


@dataclass(frozen=True)
class _Flight:
    placed: PlacedOrder
    started: dt.datetime
    ends: float
    """Deadline on the monotonic clock."""


@dataclass
class _State:
    queue: list[PlacedOrder]
    flights: dict[Any, _Flight] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)


def dispatch(orders: Sequence[PlacedOrder], terms: Terms, watcher: Watcher) -> list[Outcome]:
    """Run all orders on the connected Ray cluster; return the outcome of every attempt.

    Raises:
        UserError: the connection to Ray broke; what was finished stays, and can be resumed.
    """
    import ray

    state = _State(list(orders))
    task = ray.remote(num_cpus=1, max_retries=0)(carry_out)
    living = _Living()
    with _cancelled_at_the_end(state):
        while state.queue or state.flights:
            _submit(state, terms, watcher, task, living)
            _give_up_on_dead_nodes(state, terms, watcher, living)
            if not state.flights:
                _give_up_on_unplaceable(state, terms, watcher)
                continue
            soonest = min(flight.ends for flight in state.flights.values()) - time.monotonic()
            wait_s = max(0.0, min(_POLL_S, soonest))
            try:
                ready, _ = ray.wait(list(state.flights), timeout=wait_s)
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"the connection to Ray broke: {error}", fix="run again with --resume"
                ) from error
            for ref in ready:
                _collect(state, terms, watcher, ref)
            _give_up_on_late(state, terms, watcher)
    return state.outcomes


def _submit(state: _State, terms: Terms, watcher: Watcher, task: Any, living: "_Living") -> None:
    """Hand out what fits: only as much as a node can start at once, so that waiting for a place
    does not eat up an order's deadline."""
    waiting: list[PlacedOrder] = []
    for placed in state.queue:
        if not living.has(placed):
            error = f"node {placed.node.id} left the cluster before this could start"
            _end(state, terms, watcher, placed, _lost(placed, terms, error, None), retry=False)
        elif len(state.flights) >= terms.window or not _fits(state, terms, placed):
            waiting.append(placed)
        else:
            options: dict[str, Any] = {
                "label_selector": placed.node.selector,
                "name": placed.title,
                "num_gpus": 1 if placed.takes_accelerator else 0,
            }
            watcher.started(placed)
            ref = task.options(**options).remote(
                terms.execute, placed.order, terms.results, placed.device, str(SHIPPED)
            )
            state.flights[ref] = _Flight(
                placed,
                dt.datetime.now(dt.UTC),
                time.monotonic() + placed.order.deadline_s + terms.grace_s,
            )
    state.queue = waiting


def _fits(state: _State, terms: Terms, placed: PlacedOrder) -> bool:
    """Whether the node has room: a CPU for each task, and one child on each compute device.

    On its CPU several may compute where the terms say so, but none beside one that is timed or
    takes several threads: those wait for each other by spinning, for long with too few CPUs.
    """
    there = [f.placed for f in state.flights.values() if f.placed.node.id == placed.node.id]
    if len(there) >= placed.node.cpus:
        return False
    if placed.device is not None:
        return all(other.device != placed.device for other in there)
    beside = [other for other in there if other.order.backend == placed.order.backend]
    slots = placed.node.gpus if placed.takes_accelerator else 1
    if placed.order.backend == "cpu" and not any(_alone(other) for other in (placed, *beside)):
        slots = terms.cpu_slots
    return len(beside) < slots


def _alone(placed: PlacedOrder) -> bool:
    options = placed.order.engine.options
    threads = [options.get(name) for name in _THREADS]
    return placed.order.pass_ == "timed" or any(isinstance(n, int) and n > 1 for n in threads)


def _collect(state: _State, terms: Terms, watcher: Watcher, ref: Any) -> None:
    import ray

    flight, died = state.flights.pop(ref), False
    try:
        outcomes = ray.get(ref)
    except ray.exceptions.RayTaskError as error:
        # The supervisor never raises for an engine: its code or the results root failed there.
        text = f"the supervisor failed on {flight.placed.node.id}: {error.cause!r}"[:500]
        outcomes = record_unrun(flight.placed.order, terms.results, "error", text, flight.started)
    except ray.exceptions.RayError as error:
        first = str(error).strip().partition("\n")[0].partition(". ")[0]
        text = f"node {flight.placed.node.id}: {type(error).__name__}: {first}"[:500]
        outcomes = _lost(flight.placed, terms, text, flight.started)
        died = isinstance(error, ray.exceptions.NodeDiedError)
    _end(state, terms, watcher, flight.placed, outcomes, retry=not died)


def _give_up_on_late(state: _State, terms: Terms, watcher: Watcher) -> None:
    import ray

    now = time.monotonic()
    for ref, flight in [item for item in state.flights.items() if item[1].ends <= now]:
        ray.cancel(ref, force=True)
        del state.flights[ref]
        seconds = flight.placed.order.deadline_s + terms.grace_s
        error = f"no answer from node {flight.placed.node.id} within {seconds:g} s"
        _end(
            state, terms, watcher, flight.placed, _lost(flight.placed, terms, error, flight.started)
        )


def _give_up_on_dead_nodes(
    state: _State, terms: Terms, watcher: Watcher, living: "_Living"
) -> None:
    import ray

    for ref, flight in list(state.flights.items()):
        if not living.has(flight.placed):
            ray.cancel(ref, force=True)
            del state.flights[ref]
            error = f"node {flight.placed.node.id} left the cluster while this ran"
            outcomes = _lost(flight.placed, terms, error, flight.started)
            _end(state, terms, watcher, flight.placed, outcomes, retry=False)


def _give_up_on_unplaceable(state: _State, terms: Terms, watcher: Watcher) -> None:
    """End what does not fit although nothing runs: it would be waited for without an end."""
    unplaceable = [placed for placed in state.queue if not _fits(state, terms, placed)]
    state.queue = [placed for placed in state.queue if _fits(state, terms, placed)]
    for placed in unplaceable:
        error = f"node {placed.node.id} has no room for {placed.order.backend} work even when idle"
        _end(state, terms, watcher, placed, _lost(placed, terms, error, None), retry=False)


def _lost(
    placed: PlacedOrder, terms: Terms, error: str, started: dt.datetime | None
) -> list[Outcome]:
    return record_unrun(placed.order, terms.results, "lost", error, started)


def _end(
    state: _State,
    terms: Terms,
    watcher: Watcher,
    placed: PlacedOrder,
    outcomes: list[Outcome],
    *,
    retry: bool = True,
) -> None:
    """Note how an order ended; what was not ok is queued again while tries are left.

    A lost attempt says nothing about the engine and uses up no try, as when a run is resumed; but
    one run loses an order no more often than it may be tried, or it might never end.
    """
    state.outcomes += outcomes
    watcher.ended(placed, outcomes)
    if not retry:
        return
    lost = [outcome.cell_id for outcome in outcomes if outcome.status == "lost"]
    failed = [o.cell_id for o in outcomes if o.status not in ("ok", "lost")]
    if failed and placed.tried + 1 < terms.tries:
        state.queue.append(placed.again(failed, tried=placed.tried + 1))
    if lost and placed.lost + 1 < terms.tries:
        state.queue.append(placed.again(lost, lost=placed.lost + 1))


@contextmanager
def _cancelled_at_the_end(state: _State) -> Iterator[None]:
    """Leave no task behind when the driver is interrupted: first ask, then force."""
    import ray

    try:
        yield
    finally:
        refs = list(state.flights)
        for force in (False, True):
            for ref in refs:
                ray.cancel(ref, force=force)
            if refs:
                _, refs = ray.wait(refs, num_returns=len(refs), timeout=_INTERRUPT_S)


class _Living:
    """Which nodes are alive, asked at most every two seconds."""

    def __init__(self) -> None:
        self._asked = -_LIVENESS_S
        self._labels: list[dict[str, str]] = []

    def has(self, placed: PlacedOrder) -> bool:
        """Whether a living node bears the labels by which the order selects.

        Without a label to select by, Ray would take any node, and its work would go by the name of
        another: no node is living then.
        """
        import ray

        if not placed.node.alive or not placed.node.selector:
            return False
        now = time.monotonic()
        if now - self._asked >= _LIVENESS_S:
            # Ray leaves this function untyped.
            listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
            self._labels = [entry["Labels"] for entry in listed if entry["Alive"]]
            self._asked = now
        wanted = placed.node.selector.items()
        return any(wanted <= labels.items() for labels in self._labels)
