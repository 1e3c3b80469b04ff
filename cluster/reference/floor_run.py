"""The run of a floor: all its benign configurations in one child, which loads the model once."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.matrix.resolve import resolve
from cluster.planning.node import this_node
from cluster.planning.plan import Plan
from cluster.planning.planner import make_plan
from cluster.planning.selection import Selection
from cluster.reference.freeze_orders import reference_engine
from cluster.running.orders import make_orders
from cluster.running.run import FinishedRun, new_run_id
from cluster.running.run_rows import run_row, write_plan
from runner.order import WorkOrder
from runner.stored.store import Store
from runner.supervisor import execute
from suites.errors import UserError


def run_configurations(matrix: Path, results: str, cases: Sequence[str] = ()) -> FinishedRun:
    """Run the benign configurations of a matrix that ``benign_matrix`` wrote.

    Args:
        matrix: the matrix.
        results: results root with the references that the configurations are compared with.
        cases: ids of the ``logits`` cases to force; all when empty.

    Raises:
        UserError: the reference engine is not here, or a configuration did not end ok.
    """
    resolved = resolve(matrix)
    values = {"stage": ("logits",)} | ({"case": tuple(cases)} if cases else {})
    selection = Selection("stage=logits", values)
    plan = make_plan(resolved, (this_node(resolved.named_interpreters),), selection)
    run_id, store, started = new_run_id(), Store(results), dt.datetime.now(dt.UTC)
    row = run_row(run_id, started, plan, results, None)
    write_plan(store, row, plan)
    orders = [placed.order for placed in make_orders(plan, run_id, results)]
    if not orders:
        require_all(FinishedRun(run_id, plan, ()))
    outcomes = execute(_one_load(orders, reference_engine(resolved).python), results)
    done = row.model_copy(update={"finished": dt.datetime.now(dt.UTC)})
    store.write(run_id, "runs", "end", [done])
    ran = FinishedRun(run_id, plan, tuple(outcomes))
    require_all(ran)
    return ran


def require_all(ran: FinishedRun) -> None:
    """Refuse a run in which a benign configuration is not ok: the floor needs all of them.

    Raises:
        UserError: with each such configuration and its error.
    """
    plan: Plan = ran.plan
    errors = {p.cell.cell_id: p.reason or "never ran" for p in (*plan.pairs, *plan.skips)}
    for outcome in ran.outcomes:
        because = outcome.error or "no reason given"
        text = "" if outcome.status == "ok" else f"{outcome.status}: {because}"
        errors[outcome.cell_id] = text
    labels = {p.cell.cell_id: p.cell.entry.label for p in (*plan.pairs, *plan.skips)}
    failed = sorted(f"{labels[cell]} {text}" for cell, text in errors.items() if text)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(errors)} benign configurations did not end ok",
            where=str(plan.resolved.path),
            known="; ".join(failed),
            fix="repair the reference engine's environment; no floor was written",
        )


def _one_load(orders: Sequence[WorkOrder], python: str) -> WorkOrder:
    """Return one order for all cells: what their options have in common is loaded with."""
    first = orders[0]
    own = [order.engine.options for order in orders]
    common = {k: v for k, v in own[0].items() if all(o.get(k) == v for o in own)}
    cells = [
        cell.model_copy(update={"options": _rest(order.engine.options, common)})
        for order in orders
        for cell in order.cells
    ]
    return first.model_copy(
        update={
            "engine": replace(first.engine, python=python, options=common),
            "cells": tuple(cells),
            "deadline_s": sum(order.deadline_s for order in orders),
            "floor": True,
        }
    )


def _rest(options: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in common}
