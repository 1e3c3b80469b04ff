"""Whether a node has room for one more child beside those that already run there."""

from collections.abc import Iterable

from cluster.running.orders import PlacedOrder

#: Options of the engines that set their number of threads.
_THREADS = ("threads", "n_threads", "n_threads_batch")


def has_room(placed: PlacedOrder, running: Iterable[PlacedOrder], cpu_slots: int) -> bool:
    """Whether the order's node has a CPU for its task and a free device for its child.

    On the CPU up to ``cpu_slots`` children may compute at once. A child that is timed or uses
    several threads computes alone: threads wait for each other in busy loops, which takes very
    long with too few CPUs.

    Args:
        placed: the order that waits.
        running: orders in flight, on whatever node.
        cpu_slots: untimed children at once on one node's CPU.
    """
    there = [other for other in running if other.node.id == placed.node.id]
    if len(there) >= placed.node.cpus:
        return False
    if placed.device is not None:
        return all(other.device != placed.device for other in there)
    beside = [other for other in there if other.order.backend == placed.order.backend]
    slots = placed.node.gpus if placed.takes_accelerator else 1
    if placed.order.backend == "cpu" and not any(_runs_alone(o) for o in (placed, *beside)):
        slots = cpu_slots
    return len(beside) < slots


def _runs_alone(placed: PlacedOrder) -> bool:
    options = placed.order.engine.options
    threads = [options.get(name) for name in _THREADS]
    return placed.order.pass_ == "timed" or any(isinstance(n, int) and n > 1 for n in threads)
