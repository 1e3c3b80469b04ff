"""The engine child: reads one order, loads the engine, runs the probes and reports each trace."""

import importlib.metadata
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal

from runner.engines.abilities import Adapter
from runner.engines.base import Load
from runner.engines.events import (
    CellDone,
    Done,
    EngineLoaded,
    EventWriter,
    Failed,
    Hello,
    StageStarted,
    TraceSeen,
)
from runner.engines.failures import error_line, is_out_of_memory
from runner.engines.faults.adapter import mutated
from runner.engines.orders import CellInput, ChildOrder, read_order
from runner.engines.probes.floor import probe_floor
from runner.engines.probes.infections import probe_infections
from runner.engines.probes.run import probe_cell, probe_engine
from runner.engines.probes.subject import Subject
from runner.engines.registry import load_adapter
from runner.engines.trace import Trace

_PARENT_POLL_S = 1.0
#: Environment variables that select devices and threads.
_VISIBLE = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
)


def main() -> int:
    """Serve one order from stdin; events go to the original stdout."""
    _end_with_parent()
    stdout = _keep_stdout()
    order = read_order(sys.stdin.buffer)
    if order is None:
        print("no order on stdin", file=sys.stderr)
        return 2
    _wait_asleep(order)
    events = EventWriter(stdout, order.load.api_key)
    events.write(Hello(os.getpid()))
    with _failures_reported(events):
        adapter = _load(order.load, events)
        for cell in order.cells:
            _serve(adapter, order, cell, events)
        events.write(Done())
        return 0
    return 1


def _wait_asleep(order: ChildOrder) -> None:
    """Let threads of OpenMP that wait for others sleep; engines read this when they are imported.

    By default they spin. On a busy machine they then take the processor from those that they wait
    for: one forward pass of a small model took ten times as long. Timed requests keep the default,
    as the engine is served.
    """
    if order.load.pass_ != "timed":
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _keep_stdout() -> BinaryIO:
    """Keep the original stdout for events; descriptor 1 becomes stderr, because engines print."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return events


def _end_with_parent() -> None:
    """Kill this process and its workers when the supervisor has died: it may have been killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _failures_reported(events: EventWriter) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        kind: Literal["oom", "error"] = "oom" if is_out_of_memory(error) else "error"
        events.write(Failed(kind, error_line(error)))


def _load(load: Load, events: EventWriter) -> Adapter:
    events.write(StageStarted("load"))
    started = time.perf_counter()
    adapter = load_adapter(load)
    if load.engine.fault:
        adapter = mutated(adapter, load.engine.fault)
    loaded = adapter.loaded
    events.write(
        EngineLoaded(
            load_s=time.perf_counter() - started,
            engine_version=loaded.engine_version,
            engine_build=loaded.engine_build,
            compute_dtype=loaded.compute_dtype,
            kv_dtype=loaded.kv_dtype,
            stages=adapter.shown.stages,
            device_uuids=loaded.device_uuids,
            overrides=loaded.overrides,
            environment=_environment(loaded.device),
        )
    )
    return adapter


def _serve(adapter: Adapter, order: ChildOrder, cell: CellInput, events: EventWriter) -> None:
    for trace in _traces(adapter, order, cell, events):
        events.write(TraceSeen(cell.cell_id, trace))
    if not order.infect:
        events.write(CellDone(cell.cell_id))


def _traces(
    adapter: Adapter, order: ChildOrder, cell: CellInput, events: EventWriter
) -> Iterator[Trace]:
    def start(stage: str) -> None:
        events.write(StageStarted(stage, cell.cell_id))

    if order.infect:
        for case in cell.cases:
            yield from probe_infections(adapter, case)
        return
    if order.floor:
        yield from probe_floor(adapter, cell.options, cell.cases, start)
        return
    subject = Subject(adapter, freeze=order.freeze, timed=order.load.pass_ == "timed")
    yield from probe_engine(subject, cell.cases, set(cell.stages), start)
    yield from probe_cell(subject, cell.cases, start)


def _environment(device: dict[str, str]) -> list[tuple[str, str, str]]:
    """List what the engine runs on, as (name, version, kind)."""
    rows = {(d.metadata["Name"], d.version, "package") for d in importlib.metadata.distributions()}
    facts = [
        ("python", platform.python_version(), "python"),
        ("platform", platform.platform(), "fact"),
        *((name, value, "device") for name, value in device.items()),
    ]
    for name in _VISIBLE:
        if name in os.environ:
            facts.append((name, os.environ[name], "variable"))
    return [*facts, *sorted(row for row in rows if row[0])]
