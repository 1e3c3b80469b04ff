"""Which nodes of the connected Ray cluster are alive, read from Ray at most every two seconds."""

import time
from typing import Any

from cluster.running.orders import PlacedOrder

_REFRESH_S = 2.0


class LiveNodes:
    """The labels of all nodes that Ray calls alive, kept for two seconds."""

    def __init__(self) -> None:
        self._read_at = -_REFRESH_S
        self._labels: list[dict[str, str]] = []

    def has(self, placed: PlacedOrder) -> bool:
        """Whether a living node has the labels that select the order's node.

        Without such labels Ray would take any node, and results would carry the name of another
        one. So an order without them has no living node.
        """
        import ray

        if not placed.node.alive or not placed.node.selector:
            return False
        now = time.monotonic()
        if now - self._read_at >= _REFRESH_S:
            # Ray leaves this function untyped.
            # Ray ships no types for it.
            listed: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
            self._labels = [entry["Labels"] for entry in listed if entry["Alive"]]
            self._read_at = now
        wanted = placed.node.selector.items()
        return any(wanted <= labels.items() for labels in self._labels)
