"""One run from matrix to attempts: plan it, write the plan down, dispatch it, write its end."""

import datetime as dt
import json
import os
import re
import secrets
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cluster.matrix.resolve import Resolved, ResolvedSuite, resolve
from cluster.planning.fleet import Node, ray_nodes, this_node
from cluster.planning.plan import Plan, make_plan
from cluster.planning.selection import parse_only
from cluster.running.dispatch import Terms, dispatch
from cluster.running.on_node import Execute
from cluster.running.orders import PlacedOrder, make_orders, reference_roots
from cluster.running.progress import watch
from cluster.running.ray_session import LOCAL, ray_session
from cluster.running.resume import StoredRun, continued, find_unfinished, stored_run
from cluster.running.run_lock import the_only_driver
from runner.engines.messages import canonical_message
from runner.source_digest import source_digest
from runner.stored.store import Store
from runner.stored.tables import CaseRow, RunRow
from runner.supervisor import Outcome, execute
from suites.errors import UserError
from suites.suite import Case

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Request:
    """What a user asks of ``fleetqual run``."""

    matrix: Path
    results: str
    run_id: str | None = None
    resume: bool = False
    address: str = LOCAL
    only: str | None = None
    tier: int | None = None
    cpu_slots: int = 1
    """Untimed children at once on one node's CPU."""


@dataclass(frozen=True)
class Ran:
    """What became of a run."""

    run_id: str
    plan: Plan
    outcomes: tuple[Outcome, ...]


def plan_matrix(path: Path, only: str | None, tier: int | None, address: str = LOCAL) -> Plan:
    """Plan a matrix for this machine, or for the cluster at ``address``; nothing is run."""
    chosen, resolved = parse_only(only), resolve(path)
    if address == LOCAL:
        return make_plan(resolved, (this_node(resolved.choices),), chosen, tier)
    with ray_session(address):
        return make_plan(resolved, ray_nodes(resolved.choices), chosen, tier)


def run_matrix(request: Request, execute: Execute = execute) -> Ran:
    """Run a matrix, or what is left of an earlier run of it, with ``execute`` as supervisor.

    Raises:
        UserError: the matrix, the plan or the results root is wrong; nothing has run then.
    """
    results = absolute_results(request.results)
    store = Store(results)
    if not request.resume:
        return _run(request, store, results, None, execute)
    run_id = find_unfinished(store, request.run_id)
    with the_only_driver(store, run_id):
        return _run(request, store, results, stored_run(store, run_id), execute)


def _run(
    request: Request, store: Store, results: str, stored: StoredRun | None, execute: Execute
) -> Ran:
    only, tier = request.only, request.tier
    if stored is not None:
        only = only if only is not None else stored.config.get("only")
        tier = tier if tier is not None else stored.config.get("tier")
        if (only, tier) != (stored.config.get("only"), stored.config.get("tier")):
            raise UserError(
                f"run {stored.run_id} was started with another --only or --tier",
                known=f"--only {stored.config.get('only')}, --tier {stored.config.get('tier')}",
                fix="leave both out when resuming",
            )
    elif request.run_id is not None:
        _is_new(store, request.run_id)
    chosen, resolved = parse_only(only), resolve(request.matrix)
    with ExitStack() as session:
        nodes = _fleet(request.address, resolved, session)
        plan = make_plan(resolved, nodes, chosen, tier)
        if stored is not None:
            plan = continued(plan, stored, nodes)
        if not plan.pairs:
            reasons = sorted({s.reason or "" for s in plan.skips})
            raise UserError(
                "nothing of this matrix can run here",
                where=str(request.matrix),
                known="; ".join(reasons),
                fix="see `fleetqual plan` and `fleetqual doctor`",
            )
        run_id = stored.run_id if stored else request.run_id or new_run_id()
        started = stored.started if stored else dt.datetime.now(dt.UTC)
        if stored is None:
            session.enter_context(the_only_driver(store, run_id))
        row = _run_row(run_id, started, request, plan, results, only, tier)
        _write_plan(store, row, plan)
        orders = _orders(plan, run_id, results, stored)
        if orders and request.address == LOCAL:
            session.enter_context(ray_session(LOCAL, nodes[0]))
        terms = Terms(
            results=results,
            tries=resolved.matrix.tries,
            execute=execute,
            cpu_slots=request.cpu_slots,
        )
        with watch(sum(len(placed.order.cells) for placed in orders)) as watcher:
            outcomes = dispatch(orders, terms, watcher) if orders else []
    done = row.model_copy(update={"finished": dt.datetime.now(dt.UTC)})
    store.write(run_id, "runs", "end", [done])
    return Ran(run_id, plan, tuple(outcomes))


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
    """Return a results root which means the same in every process."""
    return results.rstrip("/") if "://" in results else os.path.abspath(results)


def _fleet(address: str, resolved: Resolved, session: ExitStack) -> tuple[Node, ...]:
    """Return the nodes to plan for; a private Ray starts only once there is something to run."""
    if address == LOCAL:
        return (this_node(resolved.choices),)
    session.enter_context(ray_session(address))
    return ray_nodes(resolved.choices)


def _is_new(store: Store, run_id: str) -> None:
    if not _RUN_ID.fullmatch(run_id):
        raise UserError(
            f"{run_id!r} cannot name a run",
            where="--run-id",
            known="letters, digits, '.', '_' and '-', at most 80",
        )
    # A run that was killed before it had written down its plan leaves nothing to go on with.
    if store.files(run_id, "runs"):
        raise UserError(
            f"run {run_id!r} is there already",
            where=store.root,
            fix="add --resume to go on with it, or choose another id",
        )


def _run_row(
    run_id: str,
    started: dt.datetime,
    request: Request,
    plan: Plan,
    results: str,
    only: str | None,
    tier: int | None,
) -> RunRow:
    matrix = plan.resolved.matrix.model_dump(mode="json", by_alias=True)
    config: dict[str, Any] = {
        "matrix_path": str(request.matrix),
        "matrix": matrix,
        "expected": matrix["expected"],
        "hardware": matrix["hardware"],
        "only": only,
        "tier": tier,
        "references": list(reference_roots(results)),
    }
    try:
        own = version("fleetqual")
    except PackageNotFoundError:
        own = "0"
    return RunRow(
        run_id=run_id,
        config=json.dumps(config, ensure_ascii=False),
        code_version=f"{own}+{source_digest()}",
        started=started,
    )


def _write_plan(store: Store, row: RunRow, plan: Plan) -> None:
    """Write down what the run is; it is unfinished until its end says otherwise."""
    store.write(row.run_id, "cases", "cases", _case_rows(plan, row.run_id))
    store.write(row.run_id, "plan", "plan", plan.rows(row.run_id))
    store.write(row.run_id, "runs", "start", [row])


def _case_rows(plan: Plan, run_id: str) -> list[CaseRow]:
    rows = []
    for resolved in _planned_suites(plan.resolved, plan):
        chosen = plan.only.cases(resolved.suite)
        for case in resolved.suite.cases:
            if chosen is None or case.id in chosen:
                rows.append(_case_row(resolved, case, run_id))
    return rows


def _planned_suites(resolved: Resolved, plan: Plan) -> list[ResolvedSuite]:
    names = {p.cell.suite.name for p in (*plan.pairs, *plan.skips)}
    return [s for s in resolved.suites if s.name in names]


def _case_row(resolved: ResolvedSuite, case: Case, run_id: str) -> CaseRow:
    suite, golden, truth = resolved.suite, case.golden, resolved.golden
    asked = case.model_dump(
        mode="json", exclude={"id", "tags", "stage", "golden"}, exclude_none=True
    )
    message = None
    if golden.message is not None:
        message = json.dumps(canonical_message(golden.message), ensure_ascii=False)
    return CaseRow(
        run_id=run_id,
        suite=suite.name,
        suite_version=suite.version,
        suite_digest=suite.digest,
        golden_weights_digest=truth.weights_digest if truth else None,
        case_id=case.id,
        case_digest=case.digest,
        stage=case.stage,
        tags=list(case.tags),
        input=json.dumps(asked, ensure_ascii=False),
        golden_prompt_text=golden.prompt_text,
        golden_prompt_ids=_listed(golden.prompt_ids),
        golden_script_ids=_listed(golden.script_ids),
        golden_text=golden.text,
        golden_message=message,
        golden_finish_reason=golden.finish_reason,
    )


def _listed(ids: tuple[int, ...] | None) -> list[int] | None:
    return None if ids is None else list(ids)
