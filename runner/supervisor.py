"""The supervisor: starts the engine child, records what it reports, and names how it ended.

It never raises for what an engine does: every attempt ends as rows in Parquet, with what the child
had reported before it failed.
"""

import datetime as dt
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from runner import infection
from runner.child_orders import candidate_order
from runner.engines.events import CellDone, EngineLoaded, Failed, StageStarted, TraceSeen
from runner.engines.orders import CellInput
from runner.engines.protocol import ProtocolError
from runner.engines.redaction import Redaction
from runner.machine import this_machine
from runner.model.facts import model_facts
from runner.model.weights import TensorFacts, tensor_facts
from runner.order import Ending, WorkOrder
from runner.process import ChildProcess, DeadlinePassed
from runner.recording import AttemptRecord
from runner.source_digest import source_digest
from runner.stored.references import References
from runner.stored.store import Store, attempt_name
from runner.truth import lacks_truth, with_truth
from suites.errors import UserError
from suites.suite import Frozen

Records = dict[str, AttemptRecord]

_TOO_LATE = "the artifact's tensors were not compared within the deadline"
_WEIGHTS_GRACE_S = 5.0
#: Bytes kept of what a managed server or a failed engine printed.
_LOG = 64 << 10


class Outcome(Frozen):
    """How one attempt at one cell ended."""

    cell_id: str
    node_id: str
    attempt: int
    status: str
    stage_reached: str | None
    error: str | None
    duration_s: float = Field(ge=0)


@dataclass
class _Report:
    """What is known of the child besides its traces."""

    loaded: EngineLoaded | None = None
    peak_memory: int | None = None
    log: str = ""


def execute(order: WorkOrder, results: str) -> list[Outcome]:
    """Run one order to its end and commit one attempt per cell.

    Raises:
        UserError: the results root cannot be written. Nothing else.
    """
    store = Store(results)
    started, clock = dt.datetime.now(dt.UTC), time.monotonic()
    records = {cell.cell_id: AttemptRecord(order, cell, store) for cell in order.cells}
    report = _Report()
    ending = _attempt(order, records, report)
    infection.infect(order, records, clock + order.deadline_s + infection.OVERTIME_S)
    if report.log:
        first = attempt_name(order.cells[0].cell_id, order.node_id, order.attempt)
        store.write_text(f"runs/{order.run_id}/logs/{first}.log", _unkeyed(report.log, order))
    outcomes = []
    for cell in order.cells:
        record = records[cell.cell_id]
        end = record.completeness.ending() if record.done else ending
        measured = end.model_copy(update={"peak_memory": report.peak_memory})
        record.write(measured, started, report.loaded, this_machine())
        outcomes.append(
            Outcome(
                cell_id=cell.cell_id,
                node_id=order.node_id,
                attempt=order.attempt,
                status=end.status,
                stage_reached=record.stage_reached,
                error=end.error,
                duration_s=record.duration_s or time.monotonic() - clock,
            )
        )
    return outcomes


def _attempt(order: WorkOrder, records: Records, report: _Report) -> Ending:
    """Return how the child ended; ``records`` and ``report`` hold what it reported until then."""
    if order.code_digest not in (None, source_digest()):
        return Ending(
            status="error",
            error=f"runner {source_digest()} was imported, the order is for {order.code_digest}",
        )
    try:
        child_order = candidate_order(order, _cases(order, records))
        truth = model_facts(order.model.hf, order.pass_, order.engine.options)
    except UserError as error:
        return Ending(status="error", error=error.line)
    except OSError as error:
        return Ending(status="error", error=str(error))
    try:
        child = ChildProcess(order.engine.python, order.deadline_s, order.engine.api_key_env)
    except OSError as error:
        return Ending(status="error", error=_no_interpreter(order, error))
    pool = ThreadPoolExecutor(1)
    with child:
        compares = order.engine.serving != "external" and _compares_weights(records)
        weights = pool.submit(_tensors, order, child) if compares else None
        child.send(child_order)
        try:
            ending = _follow(child, records, report, truth)
        except DeadlinePassed:
            ending = Ending(
                status="timeout", error=f"no end within the deadline of {order.deadline_s:g} s"
            )
        except (ProtocolError, ValueError, RecursionError) as error:
            text = f"the engine child sent something that is no event: {error}"
            ending = Ending(status="error", error=text[:500])
        report.peak_memory = child.peak_memory
        if order.engine.serving == "managed" or not all(r.done for r in records.values()):
            report.log = child.last_words(_LOG)
    pool.shutdown(wait=False)
    if weights is not None:
        try:
            tensors = weights.result(timeout=child.time_left_s + _WEIGHTS_GRACE_S)
        except TimeoutError:
            tensors = _TOO_LATE
        for record in records.values():
            _record_weights(record, tensors)
    return ending


def _follow(
    child: ChildProcess, records: Records, report: _Report, truth: dict[str, Any]
) -> Ending:
    """Record events until the child is through; return how it ended."""
    failure: Failed | None = None
    serving: AttemptRecord | None = None
    for event in child.events():
        match event:
            case StageStarted(stage, cell_id):
                serving = None if cell_id is None else _record(records, cell_id)
                for started in [serving] if serving else records.values():
                    started.start(stage)
            case EngineLoaded():
                report.loaded = event
                for record in records.values():
                    record.loaded(event.stages)
            case TraceSeen(cell_id, trace):
                _record(records, cell_id).trace(trace, truth)
            case CellDone(cell_id):
                _record(records, cell_id).finish()
            case Failed():
                failure = event
    code = child.exit_code()
    if failure:
        return Ending(status=failure.kind, error=failure.error[:500], exit_code=code)
    if code is None:
        return Ending(status="error", error="the engine child fell silent and did not exit")
    if code == -signal.SIGKILL and child.was_killed_for_memory():
        text = "the kernel killed the engine child for want of memory"
        return Ending(status="oom", error=text, exit_code=code, signal="SIGKILL")
    if code < 0:
        name = signal.Signals(-code).name
        during = f" during {serving.stage_reached}" if serving else ""
        return Ending(
            status="crashed",
            error=f"the engine child died of {name}{during}",
            exit_code=code,
            signal=name,
        )
    if code:
        words = child.last_words().splitlines()
        text = f"the engine child exited with {code}: {words[-1] if words else 'it said nothing'}"
        return Ending(status="crashed", error=text[:500], exit_code=code)
    return Ending(status="error", error="the engine child ended without serving this cell")


def _record(records: Records, cell_id: str) -> AttemptRecord:
    if cell_id not in records:
        raise ProtocolError(f"cell {cell_id!r} was not ordered"[:200])
    return records[cell_id]


def _cases(order: WorkOrder, records: Records) -> list[CellInput]:
    """Return the cases to ask, by cell; those without truth are recorded as missed."""
    references = References(order.references, order.reference_weights, order.model.tokenizer_digest)
    cells = []
    for cell_id, record in records.items():
        asked = []
        for planned in record.completeness.planned:
            case = with_truth(planned, order, references)
            lacking = None if order.freeze else lacks_truth(case)
            if lacking is None:
                asked.append(case)
            else:
                why = f"no truth to ask with: {lacking} is neither golden nor frozen"
                record.miss(planned, why)
        cells.append(CellInput(cell_id, asked, [] if order.freeze else record.completeness.stages))
    return cells


def _unkeyed(text: str, order: WorkOrder) -> str:
    """Return what an engine printed without the key that its server may have repeated."""
    return Redaction(os.environ.get(order.engine.api_key_env or "")).text(text)


def _compares_weights(records: Records) -> bool:
    return any("weights" in record.completeness.stages for record in records.values())


def _tensors(order: WorkOrder, child: ChildProcess) -> list[TensorFacts] | str:
    found = []
    try:
        for facts in tensor_facts(order.model, order.variant):
            found.append(facts)
            if not child.time_left_s:
                return _TOO_LATE
        return found
    except UserError as error:
        return f"the artifact's tensors cannot be compared: {error.line}"
    except Exception as error:
        # The engine's evidence is whole without it, and is not to be lost for it.
        return f"the artifact's tensors cannot be compared: {type(error).__name__}: {error}"


def _record_weights(record: AttemptRecord, found: list[TensorFacts] | str) -> None:
    if isinstance(found, str):
        record.no_weights(found)
        return
    for name, facts in found:
        record.tensor(name, facts)


def _no_interpreter(order: WorkOrder, error: OSError) -> str:
    return (
        f"cannot start the environment of {order.engine.name}: {order.engine.python}: "
        f"{error.strerror or error}; `fleetqual doctor` tells how to add it"
    )
