"""What a results root already holds of a run: Parquet is the only memory between two drivers."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.fleet import Node
from cluster.orders import Pair, key_of
from cluster.plan import Plan, Planned
from runner.store import Store
from suites.errors import UserError


@dataclass(frozen=True)
class StoredRun:
    """A run as far as it came."""

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
        """Return the number of each pair's next attempt; 0 for one that is not run again.

        A lost attempt says nothing about the engine, so it uses up a number but no try.
        """
        numbers: dict[Pair, int] = {}
        for key in map(key_of, plan.pairs):
            own = [a for a in self.attempts if _pair(a) == key]
            used = sum(a["status"] != "lost" for a in own)
            done = key in self.finished or used >= tries
            numbers[key] = 0 if done else max((a["attempt"] for a in own), default=0) + 1
        return numbers


def find_unfinished(store: Store, run_id: str | None) -> StoredRun:
    """Return the run to go on with: the one named, else the latest that did not finish.

    Raises:
        UserError: there is none.
    """
    known = store.runs()
    if run_id is not None:
        if run_id not in known:
            raise UserError(
                f"there is no run {run_id!r} to resume",
                where=store.root,
                known=", ".join(known[-5:]) or "no runs at all",
                fix="leave --resume out to start it",
            )
        return _stored(store, run_id)
    for candidate in reversed(known):
        rows = store.read(candidate, "runs")
        if rows and not any(row["finished"] for row in rows):
            return _stored(store, candidate)
    raise UserError(
        "every run there has finished: nothing to resume",
        where=store.root,
        fix="leave --resume out to start a new run, or name one with --run-id",
    )


def continued(plan: Plan, stored: StoredRun, nodes: Sequence[Node]) -> Plan:
    """Return the stored run's plan over the cells of a fresh one.

    Pairs stay where they were. A pair that is not finished and whose node is gone moves to a
    living node with the same hardware, if the coverage asks for hardware and not for nodes.

    Raises:
        UserError: the cells are not the same ones.
    """
    fresh = {p.cell.cell_id: p.cell for p in (*plan.pairs, *plan.skips)}
    wanted = {row["cell_id"] for row in stored.plan}
    if set(fresh) != wanted:
        raise UserError(
            f"the plan is not that of run {stored.run_id}: {len(wanted - set(fresh))} of its cells "
            f"are gone and {len(set(fresh) - wanted)} are new",
            where=str(plan.resolved.path),
            known="a cell changes with its suite, model files, engine version or options",
            fix="undo the change, or start a new run without --resume",
        )
    alive = {node.id: node for node in nodes if node.alive}
    planned = {key_of(p): p for p in plan.pairs}
    pairs = []
    for row in stored.plan:
        if row["reason"] is not None:
            continue
        known = planned.get(_pair(row))
        if known is None:
            node = alive.get(row["node_id"]) or _gone(row)
            pair = Planned(fresh[row["cell_id"]], node, place=row["node_id"])
            known = replace(pair, estimate_s=row["estimate_s"])
        pairs.append(known)
    taken = {key_of(p) for p in pairs}
    moves = plan.resolved.matrix.coverage in ("any", "each-hardware")
    for index, pair in enumerate(pairs):
        if moves and key_of(pair) not in stored.finished and not _lives(pair, alive):
            other = _alike(pair, alive.values(), taken)
            if other is not None:
                pairs[index] = replace(pair, node=other, place=None, device=None)
                taken.add(key_of(pairs[index]))
    return replace(plan, pairs=tuple(pairs))


def _stored(store: Store, run_id: str) -> StoredRun:
    runs = store.read(run_id, "runs")
    if not runs:
        raise UserError(
            f"run {run_id!r} ended before it had a plan",
            where=store.root,
            fix="start a new run without --resume",
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


def _gone(row: dict[str, Any]) -> Node:
    """Return a node that is known only from the stored plan; nothing can be placed on it."""
    hardware = {row["backend"]: row["hardware"]}
    return Node(id=row["node_id"], alive=False, hardware=hardware, labels={})


def _lives(pair: Planned, alive: dict[str, Node]) -> bool:
    return pair.node is not None and pair.node.id in alive


def _alike(pair: Planned, nodes: Any, taken: set[Pair]) -> Node | None:
    """Return a living node with the pair's hardware which does not have the cell already."""
    for node in sorted(nodes, key=lambda n: n.id):
        same = node.hardware.get(pair.cell.backend) == pair.hardware
        if same and (pair.cell.cell_id, node.id) not in taken:
            return Node.model_validate(node)
    return None
