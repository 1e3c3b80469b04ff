"""The planner: a resolved matrix and nodes in, (cell, node) pairs and skips with reasons out.

It is pure: no Ray, no clock, no files. Every combination of suite, model variant, engine, backend
and pass ends either in pairs or in a skip.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from cluster.matrix.resolve import Resolved
from cluster.matrix.schema import Exclusion
from cluster.planning.cell import Cell, placed_on
from cluster.planning.coverage import NodeChooser
from cluster.planning.node import RESERVED_BACKENDS, Node
from cluster.planning.plan import Plan, PlannedCell
from cluster.planning.selection import Selection
from runner.engines.registry import DECLARATIONS
from suites.errors import UserError


def make_plan(
    resolved: Resolved,
    nodes: Sequence[Node],
    selection: Selection | None = None,
    tier: int | None = None,
) -> Plan:
    """Plan a matrix on nodes.

    Args:
        resolved: the matrix with everything it names.
        nodes: the fleet; nodes that are not alive are never used.
        selection: the part of the plan to keep; all when None.
        tier: suites above this tier are skipped.

    Raises:
        UserError: the selection matches nothing.
    """
    selection = selection or Selection()
    chooser = NodeChooser(resolved, [n for n in nodes if n.alive])
    found = [p for cell in _cells(resolved) for p in _planned(cell, chooser, tier)]
    chosen = [
        p
        for p in found
        if selection.matches(p.columns) and selection.cases(p.cell.suite.suite) != ()
    ]
    if selection.text is not None and not chosen:
        raise UserError(
            f"nothing in the plan matches {selection.text!r}",
            where="--only",
            fix="`fleetqual plan MATRIX` shows all cells",
        )
    pairs = tuple(p for p in chosen if p.reason is None)
    return Plan(resolved, selection, pairs, tuple(p for p in chosen if p.reason is not None))


def _cells(resolved: Resolved) -> Iterator[Cell]:
    """Yield every combination; suites vary fastest, so that one child's cells are neighbours."""
    matrix = resolved.matrix
    for model in resolved.models:
        for variant, entry in product(model.variants, matrix.engines):
            if entry.variants and variant.variant.name not in entry.variants:
                continue
            for pass_, backend in product(entry.passes, matrix.backends):
                for suite in resolved.suites:
                    yield Cell(suite, model, variant, entry, backend, pass_, entry.version)


def _planned(cell: Cell, chooser: NodeChooser, tier: int | None) -> Iterator[PlannedCell]:
    reason = _reason_everywhere(cell, chooser.resolved, tier)
    if reason is not None:
        yield PlannedCell(cell, None, reason)
        return
    offering = [n for n in chooser.nodes if cell.backend in n.hardware]
    if not offering:
        yield PlannedCell(cell, None, f"no node offers {cell.backend}")
        return
    usable = []
    for node in offering:
        reason = _reason_on_node(cell, node, chooser.resolved)
        if reason is None:
            usable.append(node)
        else:
            yield PlannedCell(placed_on(cell, node, chooser.resolved), node, reason)
    yield from chooser.pairs(cell, usable)


def _reason_everywhere(cell: Cell, resolved: Resolved, tier: int | None) -> str | None:
    """Return why a cell can run on no node; None if it can."""
    engine, variant, suite = cell.entry.engine, cell.variant.variant, cell.suite.suite
    if any(_excludes(e, cell, None) for e in resolved.matrix.exclude):
        return "excluded by the matrix"
    if tier is not None and suite.tier > tier:
        return f"suite {suite.name} has tier {suite.tier}, which is above --tier {tier}"
    golden = cell.suite.golden
    if golden is not None and not golden.applies(cell.model.model):
        return (
            f"its golden answers were written for {golden.written_for}; "
            "`fleetqual qualify MODEL` derives a suite for this model"
        )
    declaration = DECLARATIONS.get(engine)
    if declaration is None:
        return f"fleetqual has no adapter for {engine}"
    if cell.entry.served not in declaration.servings:
        return f"fleetqual cannot serve {engine} as {cell.entry.served}"
    if variant.format not in declaration.formats:
        return f"{engine} does not read {variant.format} files"
    if cell.backend not in declaration.backends:
        return f"{engine} has no {cell.backend} backend"
    if cell.entry.served == "external" and cell.pass_ == "structure":
        return "the structure pass needs fp32; an external server keeps its own data type"
    weights = variant.weights_type.lower()
    if cell.pass_ == "structure" and weights not in declaration.structure_types:
        return f"the structure pass needs fp32; {engine} does not compute {weights} weights at fp32"
    return None


def _reason_on_node(cell: Cell, node: Node, resolved: Resolved) -> str | None:
    """Return why a node that offers the backend cannot run the cell; None if it can."""
    if any(_excludes(e, cell, node) for e in resolved.matrix.exclude):
        return "excluded by the matrix"
    if node.cpus < 1:
        return f"node {node.id} offers no CPU to Ray"
    if cell.backend in RESERVED_BACKENDS and node.gpus < 1:
        return f"node {node.id} offers no GPU to Ray"
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
