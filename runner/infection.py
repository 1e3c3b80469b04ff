"""Infection: the candidate's output of one stage is put into the reference's chain.

If the reference then gives the candidate's wrong answer, the fault is in that output. Infections
run only for chain cases whose answer differs from the truth (these have ``cure/…`` traces), and
only where the reference engine is installed on this node.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from runner.child_orders import reference_order
from runner.engines.engine import Engine
from runner.engines.events import Failed, TraceSeen
from runner.engines.failures import error_line
from runner.engines.orders import CellInput, Infection
from runner.engines.protocol import ProtocolError
from runner.model.artifact import HfFolder
from runner.model.copies import with_facts, with_weights
from runner.model.known_facts import KnownFacts
from runner.order import WorkOrder
from runner.process import ChildProcess, DeadlinePassed
from runner.recording import Records, record_of
from suites.errors import UserError

#: Seconds after the order's own deadline until which reference children may run. The driver gives
#: an order up 90 s after its deadline, and until then the attempt must be written.
OVERTIME_S = 40.0
#: Largest fp32 weights, in bytes, of a model that is copied: they are held in memory and written.
LARGEST_COPY = 4 << 30
#: Bytes of such a copy that any machine writes in a second.
_COPY_RATE = 50e6


@dataclass(frozen=True)
class _Host:
    """One reference child: the cases with their infections, and the model that it loads."""

    cells: list[CellInput]
    model: Callable[[], Path]
    """Returns the model's folder, and makes it if needed; may raise."""


def infect(order: WorkOrder, records: Records, ends_at: float) -> None:
    """Run the reference's chain with the candidate's outputs; record its answers, or the errors.

    Args:
        order: with the reference engine of this node.
        records: cell id → the record of its attempt, with the candidates for swaps.
        ends_at: when the last reference child is killed, on the monotonic clock.

    Raises:
        UserError: the results root cannot be written. Nothing else: an infection that fails must
            not cost the attempt.
    """
    cells = [
        CellInput(cell_id, cases)
        for cell_id, record in records.items()
        if (cases := record.swaps.infections())
    ]
    if order.reference is None or not cells:
        return
    hosts: list[_Host] = []
    try:
        with tempfile.TemporaryDirectory(prefix="fleetqual-infect-") as folder:
            hosts += _hosts(order, records, cells, Path(folder), ends_at)
            for host in hosts:
                failure = _run(order, order.reference, host, records, ends_at)
                if failure:
                    _record_failure(host.cells, records, failure)
    except Exception as error:
        for left in [host.cells for host in hosts] or [cells]:
            _record_failure(left, records, error_line(error))


def _hosts(
    order: WorkOrder,
    records: Records,
    cells: list[CellInput],
    folder: Path,
    ends_at: float,
) -> list[_Host]:
    def own_weights() -> Path:
        made = folder / "weights"
        if not made.exists():
            _refuse_large(order.model.hf, ends_at - time.monotonic())
            with_weights(order.model.hf, order.variant.path, order.variant.format, made)
        return made

    def base() -> Path:
        # The truth of a quantised variant was made over its own weights, dequantised; a GGUF that
        # was taken as the model has them in the folder that was made from it.
        has_own = order.variant.quantised and not order.variant.is_model(order.model)
        return own_weights() if has_own else order.model.hf

    def own_facts() -> Path:
        with_facts(base(), swaps.facts, folder / "config")
        return folder / "config"

    # All cells of an order are asked of one loaded model: its facts and tensors are in any record.
    hosts, swaps = [_Host(cells, base)], next(iter(records.values())).swaps
    if swaps.has_other_weights:
        hosts.append(_Host(_plainly(cells, "infect/weights"), own_weights))
    if swaps.facts:
        hosts.append(_Host(_plainly(cells, "infect/config"), own_facts))
    return hosts


def _plainly(cells: list[CellInput], probe: str) -> list[CellInput]:
    """Return the same cases with no output put in: the candidate's part is in the model's files."""
    return [
        replace(cell, cases=[replace(c, infections=[Infection(probe)]) for c in cell.cases])
        for cell in cells
    ]


def _refuse_large(hf: Path, left_s: float) -> None:
    size = 4 * sum(math.prod(tensor.shape) for tensor in HfFolder(hf).tensors().values())
    largest = min(LARGEST_COPY, left_s * _COPY_RATE)
    if size > largest:
        raise UserError(
            f"its {size / 2**30:.1f} GiB of fp32 weights are not copied: "
            f"the limit in the time left is {largest / 2**30:.1f} GiB",
            where=str(hf),
        )


def _run(
    order: WorkOrder, engine: Engine, host: _Host, records: Records, ends_at: float
) -> str | None:
    """Run one reference child; return why infections have no answer, None if all have one."""
    limit = f"infections end {OVERTIME_S:g} s after the deadline of {order.deadline_s:g} s"
    if time.monotonic() >= ends_at:
        return f"no time was left for the reference child: {limit}"
    try:
        model = host.model()
    except UserError as error:
        return f"the reference's model: {error.line}"
    except (OSError, ValueError) as error:
        return f"the reference's model: {error}"
    failed: str | None = None
    try:
        with ChildProcess(engine.python, ends_at - time.monotonic()) as child:
            child.send(reference_order(engine, model, host.cells))
            for event in child.events():
                if isinstance(event, TraceSeen):
                    record_of(records, event.cell_id).trace(event.trace, KnownFacts({}))
                elif isinstance(event, Failed):
                    failed = event.error[:500]
            code = child.exit_code()
            return failed or (f"the reference child exited with {code}" if code else None)
    except DeadlinePassed:
        return f"the reference child did not end in time: {limit}"
    except (ProtocolError, ValueError, RecursionError) as error:
        return f"the reference child sent an invalid event: {error}"[:500]
    except OSError as error:
        return f"the reference engine cannot be started: {error}"


def _record_failure(cells: list[CellInput], records: Records, failure: str) -> None:
    """Record each infection that has no answer."""
    for cell in cells:
        record = records[cell.cell_id]
        for case in cell.cases:
            for infection in case.infections:
                record.no_swap(case.id, infection.probe, failure)
