"""The supervisor: starts the engine child, records what it reports, and how it ended.

It never raises for what an engine does: every attempt ends as rows in Parquet, with everything that
the child reported before it failed.
"""

import datetime as dt
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field

from runner import infection
from runner.child_orders import candidate_order
from runner.ending import Ending, ending_of_exit, error_ending
from runner.engines.events import (
    CellDone,
    EngineLoaded,
    Event,
    Failed,
    StageStarted,
    TraceSeen,
)
from runner.engines.orders import CellInput
from runner.engines.protocol import ProtocolError
from runner.engines.redaction import Redaction
from runner.machine import this_machine
from runner.model.known_facts import KnownFacts, known_facts
from runner.order import WorkOrder
from runner.process import ChildProcess, DeadlinePassed
from runner.recording import AttemptRecord, Records, record_of
from runner.source_digest import source_digest
from runner.stored.references import References
from runner.stored.store import Store, attempt_name
from runner.tensor_comparison import TensorComparison
from runner.truth import lacks_truth, with_truth
from suites.errors import UserError
from suites.suite import Frozen

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


#: Sees each event of a child as it comes.
Watch = Callable[[Event], None]


def _ignore(_event: Event) -> None:
    """Do nothing with an event."""


@dataclass
class _ChildReport:
    """What is known of the child besides its traces."""

    loaded: EngineLoaded | None = None
    peak_memory: int | None = None
    log: str = ""


def execute(order: WorkOrder, results: str, watch: Watch = _ignore) -> list[Outcome]:
    """Run one order to its end and commit one attempt per cell; ``watch`` sees each event.

    Raises:
        UserError: the results root cannot be written. Nothing else.
    """
    store = Store(results)
    started, clock = dt.datetime.now(dt.UTC), time.monotonic()
    records = {cell.cell_id: AttemptRecord(order, cell, store) for cell in order.cells}
    report = _ChildReport()
    ending = _attempt(order, records, report, watch)
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


def _attempt(order: WorkOrder, records: Records, report: _ChildReport, watch: Watch) -> Ending:
    """Return how the child ended; ``records`` and ``report`` hold what it reported until then."""
    if order.source_digest not in (None, source_digest()):
        return error_ending(
            f"runner {source_digest()} was imported, the order is for {order.source_digest}"
        )
    try:
        child_order = candidate_order(order, _cases(order, records))
        served = None if order.engine.serving == "external" else order.variant.path
        known = known_facts(order.model.hf, order.pass_, order.engine.options, served)
    except UserError as error:
        return error_ending(error.line)
    except OSError as error:
        return error_ending(str(error))
    try:
        child = ChildProcess(
            order.engine.python,
            order.deadline_s,
            order.engine.api_key_env,
            timed=order.pass_ == "timed",
        )
    except OSError as error:
        return error_ending(
            f"cannot start the environment of {order.engine.name}: {order.engine.python}: "
            f"{error.strerror or error}; `fleetqual doctor` says how to add it"
        )
    with child:
        comparison = TensorComparison(order, child) if _has_weights(order, records) else None
        child.send(child_order)
        try:
            ending = _follow(child, records, report, known, watch)
        except DeadlinePassed:
            text = f"not finished within the deadline of {order.deadline_s:g} s"
            ending = Ending(status="timeout", error=text)
        except (ProtocolError, ValueError, RecursionError) as error:
            ending = error_ending(f"the engine child sent an invalid event: {error}")
        report.peak_memory = child.peak_memory
        if order.engine.serving == "managed" or not all(r.done for r in records.values()):
            report.log = child.last_words(_LOG)
    if comparison is not None:
        comparison.record(records.values())
    return ending


def _has_weights(order: WorkOrder, records: Records) -> bool:
    shown = any("weights" in record.completeness.stages for record in records.values())
    return shown and order.engine.serving != "external" and not (order.freeze or order.floor)


def _follow(
    child: ChildProcess,
    records: Records,
    report: _ChildReport,
    known: KnownFacts,
    watch: Watch,
) -> Ending:
    """Record events until the child ends; return how it ended."""
    failure: Failed | None = None
    serving: AttemptRecord | None = None
    for event in child.events():
        watch(event)
        match event:
            case StageStarted(stage, cell_id):
                serving = None if cell_id is None else record_of(records, cell_id)
                for started in [serving] if serving else records.values():
                    started.start(stage)
            case EngineLoaded():
                report.loaded = event
                for record in records.values():
                    record.loaded(event.stages)
            case TraceSeen(cell_id, trace):
                record_of(records, cell_id).trace(trace, known)
            case CellDone(cell_id):
                record_of(records, cell_id).finish()
            case Failed():
                failure = event
    if failure:
        ending = error_ending(failure.error)
        return ending.model_copy(update={"status": failure.kind, "exit_code": child.exit_code()})
    return ending_of_exit(child, serving.stage_reached if serving else None)


def _cases(order: WorkOrder, records: Records) -> list[CellInput]:
    """Return the cases to ask, by cell; those without truth are recorded as missed."""
    references = References(
        order.references, order.reference_function, order.model.tokenizer_digest
    )
    cells = []
    for cell_id, record in records.items():
        asked = []
        for planned in record.completeness.planned:
            try:
                case = with_truth(planned, order, references)
            except ValueError as error:
                record.miss(planned, f"no truth to ask with: {error}")
                continue
            lacking = None if order.freeze else lacks_truth(case)
            if lacking is None:
                asked.append(case)
            else:
                why = f"no truth to ask with: {lacking} is neither golden nor frozen"
                why += f" ({references.refused})" if references.refused else ""
                record.miss(planned, why)
        stages = [] if order.freeze or order.floor else record.completeness.stages
        cells.append(CellInput(cell_id, asked, stages, record.options))
    return cells


def _unkeyed(text: str, order: WorkOrder) -> str:
    """Return what an engine printed, without the key that its server may have repeated."""
    return Redaction(os.environ.get(order.engine.api_key_env or "")).text(text)
