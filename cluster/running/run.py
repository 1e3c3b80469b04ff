"""One run from matrix to attempts: plan it, store the plan, dispatch it, store its end."""

import datetime as dt
import os
import re
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cluster.matrix.resolve import Resolved, resolve
from cluster.planning.node import Node, this_node
from cluster.planning.plan import Plan
from cluster.planning.planner import make_plan
from cluster.planning.ray_nodes import ray_nodes
from cluster.planning.selection import parse_selection
from cluster.running.dispatch import DispatchOptions, dispatch
from cluster.running.on_node import Execute
from cluster.running.orders import PlacedOrder, make_orders
from cluster.running.progress import show_progress
from cluster.running.ray_session import LOCAL, ray_session
from cluster.running.resume import StoredRun, find_unfinished, resumed_plan, stored_run
from cluster.running.run_lock import exclusive_run
from cluster.running.run_rows import run_row, write_plan
from runner.stored.store import Store
from runner.supervisor import Outcome, execute
from suites.errors import UserError

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class RunOptions:
    """The options of ``fleetqual run``."""

    matrix: Path
    results: str
    run_id: str | None = None
    resume: bool = False
    address: str = LOCAL
    only: str | None = None
    tier: int | None = None
    cpu_slots: int = 1
    """Untimed children at once on one node's CPU."""
    prepare: Callable[[Plan, str], object] | None = None
    """Called with the plan and the absolute results root before anything runs: it may make what the
    plan lacks."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended: its plan and the outcome of every attempt."""

    run_id: str
    plan: Plan
    outcomes: tuple[Outcome, ...]


def plan_matrix(path: Path, only: str | None, tier: int | None, address: str = LOCAL) -> Plan:
    """Plan a matrix for this machine, or for the cluster at ``address``; nothing is run."""
    selection, resolved = parse_selection(only), resolve(path)
    if address == LOCAL:
        return make_plan(resolved, (this_node(resolved.named_interpreters),), selection, tier)
    with ray_session(address):
        return make_plan(resolved, ray_nodes(resolved.named_interpreters), selection, tier)


def run_matrix(options: RunOptions, execute: Execute = execute) -> FinishedRun:
    """Run a matrix, or the rest of an earlier run of it, with ``execute`` as supervisor.

    Raises:
        UserError: the matrix, plan or results root is wrong, or the connection to Ray broke.
    """
    results = absolute_results(options.results)
    store = Store(results)
    if not options.resume:
        return _run(options, store, results, None, execute)
    run_id = find_unfinished(store, options.run_id)
    with exclusive_run(store, run_id):
        return _run(options, store, results, stored_run(store, run_id), execute)


def _run(
    options: RunOptions, store: Store, results: str, stored: StoredRun | None, execute: Execute
) -> FinishedRun:
    only, tier = options.only, options.tier
    if stored is not None:
        only = only if only is not None else stored.config.get("only")
        tier = tier if tier is not None else stored.config.get("tier")
        if (only, tier) != (stored.config.get("only"), stored.config.get("tier")):
            raise UserError(
                f"run {stored.run_id} was started with another --only or --tier",
                known=f"--only {stored.config.get('only')}, --tier {stored.config.get('tier')}",
                fix="give neither of them with --resume",
            )
    elif options.run_id is not None:
        _is_new(store, options.run_id)
    selection, resolved = parse_selection(only), resolve(options.matrix)
    with ExitStack() as session:
        nodes = _fleet(options.address, resolved, session)
        plan = make_plan(resolved, nodes, selection, tier)
        if stored is not None:
            plan = resumed_plan(plan, stored, nodes)
        if not plan.pairs:
            reasons = sorted({s.reason or "" for s in plan.skips})
            raise UserError(
                "no cell of this matrix can run here",
                where=str(options.matrix),
                known="; ".join(reasons),
                fix="see `fleetqual plan MATRIX` and `fleetqual doctor`",
            )
        if options.prepare is not None:
            options.prepare(plan, results)
        run_id = stored.run_id if stored else options.run_id or new_run_id()
        started = stored.started if stored else dt.datetime.now(dt.UTC)
        if stored is None:
            session.enter_context(exclusive_run(store, run_id))
        row = run_row(run_id, started, plan, results, tier)
        write_plan(store, row, plan)
        orders = _orders(plan, run_id, results, stored)
        if orders and options.address == LOCAL:
            session.enter_context(ray_session(LOCAL, nodes[0]))
        dispatched = DispatchOptions(
            results=results,
            tries=resolved.matrix.tries,
            execute=execute,
            cpu_slots=options.cpu_slots,
        )
        with show_progress(sum(len(placed.order.cells) for placed in orders)) as listener:
            outcomes = dispatch(orders, dispatched, listener) if orders else []
    done = row.model_copy(update={"finished": dt.datetime.now(dt.UTC)})
    store.write(run_id, "runs", "end", [done])
    return FinishedRun(run_id, plan, tuple(outcomes))


def _orders(plan: Plan, run_id: str, results: str, stored: StoredRun | None) -> list[PlacedOrder]:
    if stored is None:
        return make_orders(plan, run_id, results)
    attempts = stored.next_attempts(plan, plan.resolved.matrix.tries)
    return make_orders(plan, run_id, results, attempts, stored.tried(plan))


def new_run_id(now: dt.datetime | None = None) -> str:
    """Return a run id: its UTC time first, so that ids sort by age."""
    now = now or dt.datetime.now(dt.UTC)
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def absolute_results(results: str) -> str:
    """Return the results root as an absolute path; a URI stays as it is."""
    return results.rstrip("/") if "://" in results else os.path.abspath(results)


def _fleet(address: str, resolved: Resolved, session: ExitStack) -> tuple[Node, ...]:
    """Return the nodes to plan for; a private Ray is started only when there are orders to run."""
    if address == LOCAL:
        return (this_node(resolved.named_interpreters),)
    session.enter_context(ray_session(address))
    return ray_nodes(resolved.named_interpreters)


def _is_new(store: Store, run_id: str) -> None:
    if not _RUN_ID.fullmatch(run_id):
        raise UserError(
            f"invalid run id {run_id!r}",
            where="--run-id",
            known="at most 80 letters, digits, '.', '_' and '-', the first a letter or a digit",
        )
    # A run that was killed before it stored its plan cannot be resumed, so its id is free.
    if store.files(run_id, "runs"):
        raise UserError(
            f"run {run_id!r} exists already",
            where=store.root,
            fix="add --resume to continue it, or choose another id",
        )
