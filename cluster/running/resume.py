"""How a run is resumed: its plan and attempts are read from Parquet, there is no other state."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.planning.cell import Cell, placed_on
from cluster.planning.node import Node
from cluster.planning.plan import Plan, PlannedCell, plan_row
from cluster.running.orders import Pair, key_of
from runner.stored.store import Store
from suites.errors import UserError

#: Columns of a plan that identify what a cell consists of.
_IDENTITY_COLUMNS = (
    "suite_version",
    "weights_type",
    "weights_digest",
    "function_digest",
    "tokenizer_digest",
    "model_weights_digest",
    "required",
    "margin",
)


@dataclass(frozen=True)
class StoredRun:
    """A stored run, finished or not."""

    run_id: str
    started: dt.datetime
    config: dict[str, Any]
    plan: tuple[dict[str, Any], ...]
    attempts: tuple[dict[str, Any], ...]

    @property
    def finished(self) -> frozenset[Pair]:
        """Pairs with an ok attempt."""
        return frozenset(_pair(a) for a in self.attempts if a["status"] == "ok")

    def next_attempts(self, plan: Plan, tries: int) -> dict[Pair, int]:
        """Return the number of each pair's next attempt; 0 for a pair that is not run again.

        A lost attempt says nothing about the engine: it uses a number, but no try.
        """
        numbers: dict[Pair, int] = {}
        for key, used in self.tried(plan).items():
            own = [a["attempt"] for a in self.attempts if _pair(a) == key]
            done = key in self.finished or used >= tries
            numbers[key] = 0 if done else max(own, default=0) + 1
        return numbers

    def tried(self, plan: Plan) -> dict[Pair, int]:
        """Return how many tries each pair has used up."""
        counted = [_pair(a) for a in self.attempts if a["status"] != "lost"]
        return {key: counted.count(key) for key in map(key_of, plan.pairs)}


def find_unfinished(store: Store, run_id: str | None) -> str:
    """Return the id of the run to resume: the given one, else the unfinished run that started last.

    The order of ids does not count: users can choose ids.

    Raises:
        UserError: there is none.
    """
    known = store.runs()
    if run_id is not None:
        if run_id not in known:
            raise UserError(
                f"there is no run {run_id!r} to resume",
                where=store.root,
                known=", ".join(known[-5:]) or "no runs",
                fix="remove --resume to start it",
            )
        return run_id
    found = {candidate: store.read(candidate, "runs") for candidate in known}
    unfinished = {
        candidate: min(row["started"] for row in rows)
        for candidate, rows in found.items()
        if rows and not any(row["finished"] for row in rows)
    }
    if not unfinished:
        raise UserError(
            "all runs are finished: nothing to resume",
            where=store.root,
            fix="remove --resume to start a new run, or name a run with --run-id",
        )
    return max(unfinished, key=lambda candidate: unfinished[candidate])


def resumed_plan(plan: Plan, stored: StoredRun, nodes: Sequence[Node]) -> Plan:
    """Return the stored run's plan with the cells of a new plan.

    Pairs stay on their nodes. If a node is gone, its unfinished pairs move to a living node with
    the same hardware and engine, unless the coverage asks for each node or device. A pair that
    cannot move stays on its lost node, and the other pairs run.

    Raises:
        UserError: the cells have changed.
    """
    alive = {node.id: node for node in nodes if node.alive}
    planned = {key_of(p): p for p in plan.pairs}
    known = {p.cell.cell_id: p.cell for p in (*plan.pairs, *plan.skips)}
    pairs, gone = [], set()
    for row in stored.plan:
        if row["reason"] is not None:
            continue
        pair = planned.get(_pair(row)) or _rebuilt(row, stored, plan, known, alive)
        if pair is None:
            gone.add(row["cell_id"])
        else:
            pairs.append(pair)
    new = _new_cells(plan, stored, bool(gone))
    if gone or new:
        raise UserError(
            f"the plan differs from that of run {stored.run_id} "
            f"(cells gone: {len(gone)}, cells new: {len(new)})",
            where=str(plan.resolved.path),
            known="a cell changes with its suite, model files, engine version and options",
            fix="undo the change, or start a new run without --resume",
        )
    taken = {key_of(p) for p in pairs}
    moves = plan.resolved.matrix.coverage in ("any", "each-hardware")
    for index, pair in enumerate(pairs):
        if moves and key_of(pair) not in stored.finished and not _lives(pair, alive):
            other = _moved(pair, plan, alive, taken)
            if other is not None:
                pairs[index] = other
                taken.add(key_of(other))
    # A lost node's cell has its pair, so its skip in the new plan is dropped.
    series = {p.cell.series_id for p in pairs}
    skips = tuple(s for s in plan.skips if s.node or s.cell.series_id not in series)
    return replace(plan, pairs=tuple(pairs), skips=skips)


def _rebuilt(
    row: dict[str, Any],
    stored: StoredRun,
    plan: Plan,
    known: dict[str, Cell],
    alive: dict[str, Node],
) -> PlannedCell | None:
    """Return a stored pair that the new plan does not have; None if its cell has changed.

    The engine's version on a lost node cannot be read, so the cell's id cannot be computed again.
    Then everything else must be equal.
    """
    node = alive.get(row["node_id"])
    if node is not None and node.hardware.get(row["backend"]) != row["hardware"]:
        node = None
    cell = known.get(row["cell_id"])
    # With each-device the devices of a living node have their own names.
    if cell is None and node is None and row["node_id"] not in {p.node_id for p in plan.pairs}:
        cell = next(
            (
                replace(p.cell, stored_id=row["cell_id"], version=None)
                for p in (*plan.skips, *plan.pairs)
                if _same_but_for_version(row, p, stored, plan)
            ),
            None,
        )
    if cell is None:
        return None
    return PlannedCell(
        cell, node or _lost_node(row), device_node_id=row["node_id"], estimate_s=row["estimate_s"]
    )


def _same_but_for_version(
    row: dict[str, Any], planned: PlannedCell, stored: StoredRun, plan: Plan
) -> bool:
    """Whether a cell equals a stored one in names, model files, suite and options."""
    cell = planned.cell
    if cell.series_id != row["series_id"]:
        return False
    fresh = plan_row(planned, plan.resolved, stored.run_id).model_dump(by_alias=True)
    then = stored.config.get("matrix", {}).get("engines", [])
    now = cell.entry.model_dump(mode="json", by_alias=True)
    return all(fresh[name] == row[name] for name in _IDENTITY_COLUMNS) and any(
        {**entry, "timeout_s": None} == {**now, "timeout_s": None} for entry in then
    )


def _new_cells(plan: Plan, stored: StoredRun, changed: bool) -> set[str]:
    """Return the new plan's cells that the stored run does not have.

    A node that joined later may bring another engine version. That is allowed unless the run's own
    cells have ``changed``; the new version is left to the next run.
    """
    cells = {row["cell_id"] for row in stored.plan}
    series = set() if changed else {row["series_id"] for row in stored.plan}
    fresh = (p.cell for p in plan.pairs)
    return {c.cell_id for c in fresh if c.cell_id not in cells and c.series_id not in series}


def stored_run(store: Store, run_id: str) -> StoredRun:
    """Read a stored run.

    Raises:
        UserError: it ended before it stored its plan.
    """
    runs = store.read(run_id, "runs")
    if not runs:
        raise UserError(
            f"run {run_id!r} ended before it had a plan",
            where=store.root,
            fix="start it again without --resume",
        )
    return StoredRun(
        run_id,
        min(row["started"] for row in runs),
        json.loads(runs[0]["config"]),
        tuple(store.read(run_id, "plan")),
        tuple(store.read(run_id, "attempts")),
    )


def _pair(row: dict[str, Any]) -> Pair:
    return row["cell_id"], row["node_id"] or ""


def _lost_node(row: dict[str, Any]) -> Node:
    """Return a node that is known only from the stored plan; nothing can run on it."""
    hardware = {row["backend"]: row["hardware"]}
    return Node(id=row["node_id"], alive=False, hardware=hardware, labels={})


def _lives(pair: PlannedCell, alive: dict[str, Node]) -> bool:
    return pair.node is not None and pair.node.id in alive


def _moved(
    pair: PlannedCell, plan: Plan, alive: dict[str, Node], taken: set[Pair]
) -> PlannedCell | None:
    """Return the pair on a living node with the same hardware; None if there is none.

    The cell must be the same there and must not run there already."""
    for name in sorted(alive):
        node = alive[name]
        if node.hardware.get(pair.cell.backend) != pair.hardware:
            continue
        there = placed_on(pair.cell, node, plan.resolved)
        if there.cell_id == pair.cell.cell_id and (there.cell_id, name) not in taken:
            return replace(pair, cell=there, node=node, device_node_id=None, device=None)
    return None
