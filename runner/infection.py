"""Infection: what the candidate made at one stage, put into the reference's chain.

If the reference then shows the candidate's symptom, the fault lies in what was put there. It is
asked only of chain cases whose answer differed from the truth (the candidate's child has left
``cure/…`` traces of them), and only where the reference engine is installed on this node.
"""

import math
import tempfile
import time
from collections.abc import Callable, Mapping
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
from runner.order import WorkOrder
from runner.process import ChildProcess, DeadlinePassed
from runner.recording import AttemptRecord
from suites.errors import UserError

#: Seconds after the order's own deadline at which all reference children have ended. The driver
#: gives an order up 90 s after its deadline, and the attempt is still to be written then.
OVERTIME_S = 40.0
#: Bytes of fp32 weights up to which a model is copied: they are held in memory and written down.
LARGEST_COPY = 4 << 30
#: Bytes of such a copy that are surely made in a second.
_COPY_RATE = 50e6

Records = Mapping[str, AttemptRecord]


@dataclass(frozen=True)
class _Host:
    """One reference child: what is put into the chain of each case, and the model it loads."""

    cells: list[CellInput]
    model: Callable[[], Path]
    """Makes the model's folder where it is not there yet; may raise."""


def infect(order: WorkOrder, records: Records, ends_at: float) -> None:
    """Run the reference's chain with the candidate's outputs; record what came, or why nothing.

    Args:
        order: with the reference engine of this node.
        records: cell id → what its attempt has brought, symptoms included.
        ends_at: when all of it is over, on the monotonic clock.

    Raises:
        UserError: the results root cannot be written. Nothing else: the attempt is not lost for it.
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
        # The truth of a quantised variant was made over its own weights, dequantised.
        return own_weights() if order.variant.quantised else order.model.hf

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
    """The same cases with nothing put in: what is foreign is in the model's files."""
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
            f"at most {largest / 2**30:.1f} GiB are in the time that is left",
            where=str(hf),
        )


def _run(
    order: WorkOrder, engine: Engine, host: _Host, records: Records, ends_at: float
) -> str | None:
    """Run one reference child; return why it brought less than was asked."""
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
                    records[event.cell_id].trace(event.trace, {})
                elif isinstance(event, Failed):
                    failed = event.error[:500]
            code = child.exit_code()
            return failed or (f"the reference child exited with {code}" if code else None)
    except DeadlinePassed:
        return f"the reference child did not end in time: {limit}"
    except (ProtocolError, ValueError, RecursionError) as error:
        return f"the reference child sent something that is no event: {error}"[:500]
    except OSError as error:
        return f"the reference engine cannot be started: {error}"


def _record_failure(cells: list[CellInput], records: Records, failure: str) -> None:
    """Record each infection that brought nothing."""
    for cell in cells:
        record = records[cell.cell_id]
        for case in cell.cases:
            for infection in case.infections:
                record.no_swap(case.id, infection.probe, failure)
