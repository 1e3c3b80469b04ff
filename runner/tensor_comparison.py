"""The artifact's tensors against the model's, compared while the engine child runs."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from runner.model.weights import TensorFacts, UnknownLayout, tensor_facts
from runner.order import WorkOrder
from runner.process import ChildProcess
from runner.recording import AttemptRecord
from suites.errors import UserError

_TOO_LATE = "the artifact's tensors were not compared within the deadline"
_GRACE_S = 5.0


class TensorComparison:
    """Compares in a thread of its own, until the child's deadline."""

    def __init__(self, order: WorkOrder, child: ChildProcess) -> None:
        self._child = child
        pool = ThreadPoolExecutor(1)
        self._found = pool.submit(_compare, order, child)
        pool.shutdown(wait=False)

    def record(self, records: Iterable[AttemptRecord]) -> None:
        """Record the facts of every tensor, or why there are none."""
        try:
            found = self._found.result(timeout=self._child.time_left_s + _GRACE_S)
        except TimeoutError:
            found = _TOO_LATE
        for record in records:
            if isinstance(found, UnknownLayout):
                record.unknown_weights(str(found))
            elif isinstance(found, str):
                record.no_weights(found)
            else:
                for name, facts in found:
                    record.tensor(name, facts)


def _compare(order: WorkOrder, child: ChildProcess) -> list[TensorFacts] | UnknownLayout | str:
    found = []
    try:
        for facts in tensor_facts(order.model, order.variant):
            found.append(facts)
            if not child.time_left_s:
                return _TOO_LATE
        return found
    except UnknownLayout as error:
        return error
    except UserError as error:
        return f"the artifact's tensors cannot be compared: {error.line}"
    except Exception as error:
        # The engine's traces are complete without it, and must not be lost.
        return f"the artifact's tensors cannot be compared: {type(error).__name__}: {error}"
