"""The supervisor: starts the engine child, records what it reports, and names how it ended.

It never raises for what an engine does: every attempt ends as rows in Parquet, with what the child
had reported before it failed.
"""

import datetime as dt
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import Field

from runner import infection
from runner.code import code_digest
from runner.engines.protocol import PROTOCOL_VERSION, ProtocolError
from runner.engines.redaction import SHORTEST_KEY, Redaction
from runner.machine import this_machine
from runner.model.facts import model_facts
from runner.model.weights import TensorFacts, tensor_facts
from runner.order import Ending, Engine, WorkOrder
from runner.process import ChildProcess, DeadlinePassed
from runner.recording import AttemptRecord
from runner.stored.references import References, child_case, lacks_truth
from runner.stored.store import Store, attempt_name
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


def execute(order: WorkOrder, results: str) -> list[Outcome]:
    """Run one order to its end and commit one attempt per cell.

    Raises:
        UserError: the results root cannot be written. Nothing else.
    """
    store = Store(results)
    started, clock = dt.datetime.now(dt.UTC), time.monotonic()
    records = {cell.cell_id: AttemptRecord(order, cell, store) for cell in order.cells}
    load: dict[str, Any] = {}
    ending = _attempt(order, records, load)
    infection.infect(order, records, clock + order.deadline_s + infection.OVERTIME_S)
    if load.get("log"):
        first = attempt_name(order.cells[0].cell_id, order.node_id, order.attempt)
        store.write_text(f"runs/{order.run_id}/logs/{first}.log", _unkeyed(load["log"], order))
    outcomes = []
    for cell in order.cells:
        record = records[cell.cell_id]
        end = record.completeness() if record.done else ending
        record.write(end.with_memory(load), started, load, this_machine())
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


def _attempt(order: WorkOrder, records: Records, load: dict[str, Any]) -> Ending:
    """Return how the child ended; ``records`` and ``load`` hold what it reported until then."""
    if order.code_digest not in (None, code_digest()):
        return Ending(
            status="error",
            error=f"runner {code_digest()} was imported, the order is for {order.code_digest}",
        )
    try:
        body = _child_order(order, records)
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
        child.send(body)
        try:
            ending = _follow(child, records, load, truth)
        except DeadlinePassed:
            ending = Ending(
                status="timeout", error=f"no end within the deadline of {order.deadline_s:g} s"
            )
        except (ProtocolError, KeyError, TypeError, ValueError) as error:
            ending = Ending(
                status="error", error=f"the engine child spoke no event: {error!r}"[:500]
            )
        load["peak_memory"] = child.peak_memory
        if order.engine.serving == "managed" or not all(r.done for r in records.values()):
            load["log"] = child.last_words(_LOG)
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
    child: ChildProcess, records: Records, load: dict[str, Any], truth: dict[str, Any]
) -> Ending:
    """Record events until the child is through; return how it ended."""
    failure: Ending | None = None
    serving: AttemptRecord | None = None
    for header, arrays in child.events():
        kind = header["event"]
        record = records.get(header.get("cell_id") or "")
        if kind == "hello" and header["protocol"] != PROTOCOL_VERSION:
            raise ValueError(f"protocol {header['protocol']}, not {PROTOCOL_VERSION}")
        if kind == "stage":
            for started in [record] if record else list(records.values()):
                started.start(header["stage"])
            serving = record
        elif kind == "loaded":
            load.update(header)
            for loaded in records.values():
                loaded.loaded(header["stages"])
        elif kind == "trace" and record:
            record.trace(header, arrays, truth)
        elif kind == "cell_done" and record:
            record.finish()
        elif kind == "failed":
            failure = Ending(status=header["kind"], error=str(header["error"])[:500])
    code = child.exit_code()
    if failure:
        return failure.model_copy(update={"exit_code": code})
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


def _child_order(order: WorkOrder, records: Records) -> dict[str, Any]:
    """Return the order as the child reads it; cases without truth are recorded as missed."""
    references = References(order.references, order.reference_weights, order.model.tokenizer_digest)
    cells = []
    for cell_id, record in records.items():
        asked = []
        for case in record.planned:
            body = child_case(case, order, references)
            lacking = None if order.freeze else lacks_truth(body)
            if lacking is None:
                asked.append(body)
            else:
                record.miss(case, f"no truth to ask with: {lacking} is neither golden nor frozen")
        stages = [] if order.freeze else record.stages
        cells.append({"cell_id": cell_id, "stages": stages, "cases": asked})
    load = {
        "path": str(order.variant.path),
        "backend": order.backend,
        "pass_": order.pass_,
        "weights_type": order.variant.weights_type,
        "options": order.engine.options,
        "engine": order.engine.engine,
        "serving": order.engine.serving,
        "base_url": order.engine.base_url,
        "dialect": order.engine.dialect,
        "api_key": _api_key(order.engine),
        "deadline_s": order.deadline_s,
        "proxy": order.engine.proxy,
    }
    return {
        "event": "order",
        "freeze": order.freeze,
        "load": load,
        "fault": order.engine.fault,
        "cells": cells,
    }


def _api_key(engine: Engine) -> str | None:
    """Return the key of an external server, which only its node has."""
    if engine.api_key_env is None:
        return None
    key = os.environ.get(engine.api_key_env)
    if not key:
        raise UserError(
            f"the variable {engine.api_key_env} with the key of {engine.name} is not set here",
            fix=f"export {engine.api_key_env} where this node's Ray was started",
        )
    if len(key) < SHORTEST_KEY:
        raise UserError(
            f"the key in {engine.api_key_env} is shorter than {SHORTEST_KEY} characters",
            fix="give the server a longer one: so short a key cannot be kept out of what it says",
        )
    return key


def _unkeyed(text: str, order: WorkOrder) -> str:
    """Return what an engine printed without the key that its server may have repeated."""
    return Redaction(os.environ.get(order.engine.api_key_env or "")).text(text)


def _compares_weights(records: Records) -> bool:
    return any("weights" in record.stages for record in records.values())


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
