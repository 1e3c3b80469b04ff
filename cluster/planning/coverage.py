"""Which nodes a cell runs on: as many as the coverage asks for, with loads kept even."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cluster.matrix.resolve import Resolved
from cluster.planning.cell import Cell, placed_on
from cluster.planning.estimate import child_seconds, suite_seconds
from cluster.planning.node import Node
from cluster.planning.plan import PlannedCell


class NodeChooser:
    """Chooses nodes as the coverage asks, and keeps their loads even."""

    def __init__(self, resolved: Resolved, nodes: Sequence[Node]) -> None:
        self.resolved = resolved
        self.nodes = sorted(nodes, key=lambda n: n.id)
        self.busy = {n.id: 0.0 for n in self.nodes}
        self.chosen: dict[tuple[Any, ...], tuple[Node, ...]] = {}

    def pairs(self, cell: Cell, usable: Sequence[Node]) -> Iterator[PlannedCell]:
        """Yield the cell on each node that the coverage asks for."""
        if not usable:
            return
        # All cells of one child go to one node; else it would load its model again for each suite.
        key = (cell.child, tuple(n.id for n in usable))
        if key not in self.chosen:
            self.chosen[key] = tuple(self._choose(cell, usable))
        for node in self.chosen[key]:
            for device_node_id, device in self._devices(cell, node):
                yield self._pair(placed_on(cell, node, self.resolved), node, device_node_id, device)

    def _choose(self, cell: Cell, usable: Sequence[Node]) -> Iterable[Node]:
        coverage = self.resolved.matrix.coverage
        if coverage in ("each-node", "each-device"):
            return usable
        if coverage == "any":
            return [self._least_busy(usable)]
        alike: dict[str, list[Node]] = {}
        for node in usable:
            alike.setdefault(node.hardware[cell.backend], []).append(node)
        return [self._least_busy(group) for group in alike.values()]

    def _least_busy(self, nodes: Sequence[Node]) -> Node:
        return min(nodes, key=lambda n: (self.busy[n.id], n.id))

    def _devices(self, cell: Cell, node: Node) -> list[tuple[str | None, str | None]]:
        devices = node.devices.get(cell.backend, ())
        if self.resolved.matrix.coverage != "each-device" or len(devices) < 2:
            return [(None, None)]
        return [(f"{node.id}-{cell.backend}{i}", device) for i, device in enumerate(devices)]

    def _pair(
        self, cell: Cell, node: Node, device_node_id: str | None, device: str | None
    ) -> PlannedCell:
        size = cell.variant.size
        seconds = child_seconds(size) / len(self.resolved.suites) + suite_seconds(
            cell.suite.suite, size, cell.backend, cell.pass_
        )
        self.busy[node.id] += seconds
        return PlannedCell(cell, node, None, device, device_node_id, seconds)
