"""The planner: a resolved matrix and nodes in, (cell, node) pairs and reasoned skips out.

It is pure: no Ray, no clock, no files. Every combination of suite, model variant, engine, backend
and pass ends either in pairs or in a skip.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from cluster.matrix.resolve import Resolved, ResolvedModel, ResolvedSuite, ResolvedVariant
from cluster.matrix.schema import EngineEntry, Exclusion
from cluster.planning.estimate import child_seconds, suite_seconds
from cluster.planning.fleet import RESERVED, Node
from cluster.planning.selection import Only
from runner.engines.registry import DECLARATIONS
from runner.stored.tables import PlanRow
from suites.digest import tagged_digest
from suites.errors import UserError
from suites.stages import Backend, Pass

DEFAULT_STRUCTURE_MARGIN = 1e-7


@dataclass(frozen=True)
class Cell:
    """Suite × model variant × engine × backend × pass, everything resolved."""

    suite: ResolvedSuite
    model: ResolvedModel
    variant: ResolvedVariant
    entry: EngineEntry
    backend: Backend
    pass_: Pass
    version: str | None = None
    """Engine version: the one asked for, else the one found on the node, else unknown. An
    interpreter that the matrix names tells its own."""
    stored_id: str | None = None
    """The id under which a run has it, where the version behind the id can be asked no more."""

    @property
    def names(self) -> dict[str, Any]:
        """What the cell is called, whatever versions and files are behind the names."""
        return {
            "suite": self.suite.suite.name,
            "model": self.model.model.name,
            "variant": self.variant.variant.name,
            "engine": self.entry.label,
            "kind": self.entry.engine,
            "serving": self.entry.served,
            "backend": self.backend,
            "pass": self.pass_,
        }

    @property
    def series_id(self) -> str:
        """``s1:…`` over the names only, so that history survives an upgrade."""
        return tagged_digest("s1", self.names)

    @property
    def cell_id(self) -> str:
        """``c1:…`` over names, versions, digests and options; the node is not in it."""
        if self.stored_id is not None:
            return self.stored_id
        resolved = {
            "suite_digest": self.suite.suite.digest,
            "model_weights": self.model.model.weights_digest,
            "tokenizer": self.model.model.tokenizer_digest,
            "artifact": self.variant.variant.artifact_digest,
            "version": self.version,
            "options": self.entry.options,
            "base_url": self.entry.base_url,
            "dialect": self.entry.dialect,
        }
        for name in ("fault", "proxy"):
            if (put := getattr(self.entry, name)) is not None:
                resolved[name] = put.model_dump(mode="json")
        return tagged_digest("c1", {**self.names, **resolved})

    @property
    def child(self) -> tuple[str, str, str, Backend, Pass]:
        """What one engine child is loaded for."""
        return (
            self.model.model.name,
            self.variant.variant.name,
            self.entry.label,
            self.backend,
            self.pass_,
        )


@dataclass(frozen=True)
class Planned:
    """A cell on a node to run, or (with a reason) a cell, on one node or on all, that is not."""

    cell: Cell
    node: Node | None
    reason: str | None = None
    device: str | None = None
    """The one accelerator to use, where each device is a place of its own."""
    place: str | None = None
    """Its name as a node; the node's when None."""
    estimate_s: float | None = None

    @property
    def node_id(self) -> str | None:
        """The node's name in every table."""
        return self.place or (self.node.id if self.node else None)

    @property
    def hardware(self) -> str | None:
        """Slug of the device that computes."""
        return self.node.hardware.get(self.cell.backend) if self.node else None

    @property
    def columns(self) -> dict[str, str | None]:
        """What ``--only`` selects by."""
        names = {k: v for k, v in self.cell.names.items() if k != "kind"}
        return {
            **names,
            "cell": self.cell.cell_id,
            "series": self.cell.series_id,
            "hardware": self.hardware,
            "node": self.node_id,
        }


@dataclass(frozen=True)
class Plan:
    """What will run where, and why the rest will not."""

    resolved: Resolved
    only: Only
    pairs: tuple[Planned, ...]
    skips: tuple[Planned, ...]

    @property
    def seconds(self) -> float:
        """Estimated seconds of the busiest node: nodes work side by side."""
        busy: dict[str | None, float] = {}
        for pair in self.pairs:
            busy[pair.node_id] = busy.get(pair.node_id, 0.0) + (pair.estimate_s or 0.0)
        return max(busy.values(), default=0.0)

    def rows(self, run_id: str) -> list[PlanRow]:
        """Return the plan as stored."""
        return [plan_row(p, self.resolved, run_id) for p in (*self.pairs, *self.skips)]


def make_plan(
    resolved: Resolved, nodes: Sequence[Node], only: Only | None = None, tier: int | None = None
) -> Plan:
    """Plan a matrix on nodes.

    Args:
        resolved: the matrix with everything it names.
        nodes: the fleet; nodes that are not alive are never used.
        only: selects a part of the plan.
        tier: suites above it are skipped.

    Raises:
        UserError: ``only`` selects nothing.
    """
    only = only or Only()
    chooser = _Chooser(resolved, [n for n in nodes if n.alive])
    found = [p for cell in _cells(resolved) for p in _planned(cell, chooser, tier)]
    taken = [p for p in found if only.takes(p.columns) and only.cases(p.cell.suite.suite) != ()]
    if only.text is not None and not taken:
        raise UserError(
            f"nothing in the plan matches {only.text!r}",
            where="--only",
            fix="see what there is with `fleetqual plan`",
        )
    pairs = tuple(p for p in taken if p.reason is None)
    return Plan(resolved, only, pairs, tuple(p for p in taken if p.reason is not None))


def _cells(resolved: Resolved) -> Iterator[Cell]:
    """Yield every combination; suites vary fastest, so that one child's cells lie together."""
    matrix = resolved.matrix
    for model in resolved.models:
        for variant, entry in product(model.variants, matrix.engines):
            if entry.variants and variant.variant.name not in entry.variants:
                continue
            for pass_, backend in product(entry.passes, matrix.backends):
                for suite in resolved.suites:
                    yield Cell(suite, model, variant, entry, backend, pass_, entry.version)


def _planned(cell: Cell, chooser: "_Chooser", tier: int | None) -> Iterator[Planned]:
    reason = _impossible(cell, chooser.resolved, tier)
    if reason is not None:
        yield Planned(cell, None, reason)
        return
    offering = [n for n in chooser.nodes if cell.backend in n.hardware]
    if not offering:
        yield Planned(cell, None, f"no node offers {cell.backend}")
        return
    usable = []
    for node in offering:
        reason = _unusable(cell, node, chooser.resolved)
        if reason is None:
            usable.append(node)
        else:
            yield Planned(placed_on(cell, node, chooser.resolved), node, reason)
    yield from chooser.pairs(cell, usable)


def _impossible(cell: Cell, resolved: Resolved, tier: int | None) -> str | None:
    """Return why a cell can run nowhere; None if it can."""
    engine, variant, suite = cell.entry.engine, cell.variant.variant, cell.suite.suite
    if any(_excludes(e, cell, None) for e in resolved.matrix.exclude):
        return "excluded by the matrix"
    if tier is not None and suite.tier > tier:
        return f"suite {suite.name} is of tier {suite.tier}, above --tier {tier}"
    declaration = DECLARATIONS.get(engine)
    if declaration is None:
        return f"fleetqual has no adapter for {engine} yet"
    if cell.entry.served not in declaration.servings:
        return f"{engine} cannot be served {cell.entry.served} by fleetqual yet"
    if variant.format not in declaration.formats:
        return f"{engine} does not read {variant.format}"
    if cell.backend not in declaration.backends:
        return f"{engine} has no {cell.backend} backend"
    if cell.entry.served == "external" and cell.pass_ == "structure":
        return "structure needs fp32, and an external server computes as it was started"
    weights = variant.weights_type.lower()
    if cell.pass_ == "structure" and weights not in declaration.structure_types:
        return f"structure compares at fp32; {weights} weights are not computed at fp32 by {engine}"
    return None


def _unusable(cell: Cell, node: Node, resolved: Resolved) -> str | None:
    """Return why one node that offers the backend is not used; None if it can be."""
    if any(_excludes(e, cell, node) for e in resolved.matrix.exclude):
        return "excluded by the matrix"
    if node.cpus < 1:
        return f"node {node.id} offers Ray no CPU"
    if cell.backend in RESERVED and node.gpus < 1:
        return f"node {node.id} offers Ray no GPU"
    return None


def _excludes(exclusion: Exclusion, cell: Cell, node: Node | None) -> bool:
    """Whether every key of an exclusion matches; keys about nodes match only with a node."""
    matches: dict[str, bool] = {
        "suite": exclusion.suite in (cell.suite.name, cell.suite.suite.name),
        "model": exclusion.model == cell.model.model.name,
        "variant": exclusion.variant == cell.variant.variant.name,
        "engine": exclusion.engine in (cell.entry.label, cell.entry.engine),
        "backend": exclusion.backend == cell.backend,
        "pass_": exclusion.pass_ == cell.pass_,
        "hardware": node is not None and exclusion.hardware == node.hardware.get(cell.backend),
        "node": node is not None and exclusion.node == node.id,
    }
    return all(matches[key] for key in exclusion.model_fields_set)


def placed_on(cell: Cell, node: Node, resolved: Resolved) -> Cell:
    """Return the cell as it is on a node: with the version of the engine there."""
    entry = cell.entry
    version = node.version(entry.engine, resolved.python(entry), entry.version)
    return replace(cell, version=version, stored_id=None)


class _Chooser:
    """Picks nodes as the coverage asks, and keeps their loads even."""

    def __init__(self, resolved: Resolved, nodes: Sequence[Node]) -> None:
        self.resolved = resolved
        self.nodes = sorted(nodes, key=lambda n: n.id)
        self.busy = {n.id: 0.0 for n in self.nodes}
        self.chosen: dict[tuple[Any, ...], tuple[Node, ...]] = {}

    def pairs(self, cell: Cell, usable: Sequence[Node]) -> Iterator[Planned]:
        """Yield the cell on each node that the coverage asks for."""
        if not usable:
            return
        # One child's cells go to one place, or its model would be loaded again for each suite.
        key = (cell.child, tuple(n.id for n in usable))
        if key not in self.chosen:
            self.chosen[key] = tuple(self._choose(cell, usable))
        for node in self.chosen[key]:
            for place, device in self._places(cell, node):
                yield self._pair(placed_on(cell, node, self.resolved), node, place, device)

    def _choose(self, cell: Cell, usable: Sequence[Node]) -> Iterable[Node]:
        coverage = self.resolved.matrix.coverage
        if coverage in ("each-node", "each-device"):
            return usable
        if coverage == "any":
            return [self._idlest(usable)]
        alike: dict[str, list[Node]] = {}
        for node in usable:
            alike.setdefault(node.hardware[cell.backend], []).append(node)
        return [self._idlest(group) for group in alike.values()]

    def _idlest(self, nodes: Sequence[Node]) -> Node:
        return min(nodes, key=lambda n: (self.busy[n.id], n.id))

    def _places(self, cell: Cell, node: Node) -> list[tuple[str | None, str | None]]:
        devices = node.devices.get(cell.backend, ())
        if self.resolved.matrix.coverage != "each-device" or len(devices) < 2:
            return [(None, None)]
        return [(f"{node.id}-{cell.backend}{i}", device) for i, device in enumerate(devices)]

    def _pair(self, cell: Cell, node: Node, place: str | None, device: str | None) -> Planned:
        size = cell.variant.size
        seconds = child_seconds(size) / len(self.resolved.suites) + suite_seconds(
            cell.suite.suite, size, cell.backend, cell.pass_
        )
        self.busy[node.id] += seconds
        return Planned(cell, node, None, device, place, seconds)


def plan_row(planned: Planned, resolved: Resolved, run_id: str) -> PlanRow:
    """Return a pair or skip as stored."""
    cell = planned.cell
    suite, model, variant = cell.suite.suite, cell.model.model, cell.variant.variant
    if cell.pass_ == "structure":
        margin: float | None = suite.margins.get("structure", DEFAULT_STRUCTURE_MARGIN)
    else:
        margin = variant.margin if variant.margin is not None else suite.margins.get(cell.pass_)
    weights = variant.weights_digest if variant.quantised else model.weights_digest
    return PlanRow(
        run_id=run_id,
        cell_id=cell.cell_id,
        node_id=planned.node_id,
        series_id=cell.series_id,
        suite=suite.name,
        suite_version=suite.version,
        model=model.name,
        variant=variant.name,
        engine=cell.entry.label,
        engine_kind=cell.entry.engine,
        serving=cell.entry.served,
        backend=cell.backend,
        pass_=cell.pass_,
        hardware=planned.hardware,
        reason=planned.reason,
        margin=margin,
        required=list(resolved.matrix.require or suite.requires),
        weights_type=variant.weights_type,
        weights_digest=weights,
        tokenizer_digest=model.tokenizer_digest,
        model_weights_digest=model.weights_digest,
        estimate_s=planned.estimate_s,
    )
