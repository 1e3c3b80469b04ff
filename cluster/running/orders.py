"""Pairs into work orders: one order for each engine child, with all the cells that it serves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cluster.planning.node import RESERVED_BACKENDS, Node
from cluster.planning.plan import Plan, PlannedCell
from runner.engines.engine import Engine
from runner.order import CellOrder, WorkOrder
from runner.source_digest import source_digest
from runner.stored.references import reference_roots

Pair = tuple[str, str]
"""(cell id, node id)."""


@dataclass(frozen=True)
class PlacedOrder:
    """A work order and the node that is to run it.

    The order's interpreter is empty unless the matrix names one: it is found on the node.
    """

    order: WorkOrder
    node: Node
    device: str | None = None
    """The one accelerator it may use; any when None."""
    tried: int = 0
    """Tries that its cells have used up before, in whatever run of the driver."""
    lost: int = 0
    """How often it was lost since the driver started."""

    @property
    def takes_accelerator(self) -> bool:
        """Whether Ray must reserve a GPU for it."""
        return self.order.backend in RESERVED_BACKENDS

    @property
    def title(self) -> str:
        """What people call it: variant, engine, backend, pass and node."""
        o = self.order
        model = f"{o.model.name}/{o.variant.name}"
        return f"{model} · {o.engine.name} · {o.backend} · {o.pass_} · {o.node_id}"

    def again(
        self, cell_ids: Iterable[str], *, tried: int | None = None, lost: int | None = None
    ) -> "PlacedOrder":
        """Return the next attempt, at only these cells; counts that are left out stay."""
        wanted = set(cell_ids)
        update = {
            "cells": tuple(c for c in self.order.cells if c.cell_id in wanted),
            "attempt": self.order.attempt + 1,
        }
        return replace(
            self,
            order=self.order.model_copy(update=update),
            tried=self.tried if tried is None else tried,
            lost=self.lost if lost is None else lost,
        )


def make_orders(
    plan: Plan,
    run_id: str,
    results: str,
    attempts: Mapping[Pair, int] | None = None,
    tried: Mapping[Pair, int] | None = None,
) -> list[PlacedOrder]:
    """Group the plan's pairs into orders.

    Args:
        plan: whose pairs are to run.
        run_id: the run they belong to.
        results: results root, absolute.
        attempts: attempt number of a pair; 1 for those left out. A pair with 0 is not run.
        tried: tries that a pair has used up; 0 for those left out.
    """
    attempts, tried = attempts or {}, tried or {}
    groups: dict[tuple[object, ...], list[PlannedCell]] = {}
    for pair in plan.pairs:
        attempt, used = attempts.get(key_of(pair), 1), tried.get(key_of(pair), 0)
        if attempt:
            group = (pair.cell.child, pair.node_id, _golden(pair), attempt, used)
            groups.setdefault(group, []).append(pair)
    orders = []
    for pairs in groups.values():
        key = key_of(pairs[0])
        made = _order(plan, run_id, results, pairs, _golden(pairs[0]), attempts.get(key, 1))
        orders.append(replace(made, tried=tried.get(key, 0)))
    return orders


def key_of(pair: PlannedCell) -> Pair:
    """Return the names by which Parquet knows a pair."""
    return pair.cell.cell_id, pair.node_id or ""


def _reference_engine(plan: Plan) -> Engine:
    """Return the matrix's reference engine; the node that runs an order finds its interpreter.

    The entry that goes by the engine's own name speaks for it. Others are variations: the first
    without a fault lends its environment, but not its options.
    """
    kind = plan.resolved.matrix.reference.engine
    same = [e for e in plan.resolved.matrix.engines if e.engine == kind and e.fault is None]
    entry = next((e for e in same if e.label == kind), next(iter(same), None))
    if entry is None:
        return Engine(name=kind, engine=kind)
    own = plan.resolved.engine(entry)
    options = own.options if entry.label == kind else {}
    return Engine(kind, kind, version=own.version, python=own.python, options=options)


def _golden(pair: PlannedCell) -> bool:
    golden = pair.cell.suite.golden
    return golden is not None and golden.applies(pair.cell.model.model)


def _order(
    plan: Plan, run_id: str, results: str, pairs: list[PlannedCell], golden: bool, attempt: int
) -> PlacedOrder:
    first = pairs[0]
    cell, entry, node = first.cell, first.cell.entry, first.node
    if node is None or first.node_id is None or first.hardware is None:
        raise ValueError("a pair to run has a node that offers its backend")
    chosen: list[str] = []
    for pair in pairs:
        chosen += plan.selection.cases(pair.cell.suite.suite) or ()
    order = WorkOrder(
        run_id=run_id,
        node_id=first.node_id,
        hardware=first.hardware,
        attempt=attempt,
        model=cell.model.model,
        variant=cell.variant.variant,
        engine=plan.resolved.engine(entry),
        backend=cell.backend,
        pass_=cell.pass_,
        cells=tuple(
            CellOrder(cell_id=p.cell.cell_id, series_id=p.cell.series_id, suite=p.cell.suite.suite)
            for p in pairs
        ),
        deadline_s=plan.resolved.timeout_s(entry, sum(pair.estimate_s or 0.0 for pair in pairs)),
        golden_model=golden,
        references=reference_roots(results),
        reference=_reference_engine(plan),
        only_cases=tuple(dict.fromkeys(chosen)),
        source_digest=source_digest(),
    )
    return PlacedOrder(order, node, first.device)
