"""The child's life: read one order, load the engine once, run every probe, report each at once."""

import importlib.metadata
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from runner.engines.base import Adapter, Load
from runner.engines.events import Events
from runner.engines.failures import is_out_of_memory, told
from runner.engines.faults.adapter import mutated
from runner.engines.probed import Probed
from runner.engines.probes.infections import probe_infections
from runner.engines.probes.run import probe_cell, probe_engine
from runner.engines.probes.subject import Subject
from runner.engines.protocol import PROTOCOL_VERSION, read_frame, write_frame
from runner.engines.registry import adapter_maker

_PARENT_POLL_S = 1.0
#: Variables that decide what computes.
_VISIBLE = (
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
)


def main() -> int:
    """Serve one order from stdin; events go to the stdout that we were given."""
    _end_with_parent()
    events_to = _keep_stdout()
    received = read_frame(sys.stdin.buffer)
    if received is None:
        print("no order on stdin", file=sys.stderr)
        return 2
    order, _ = received
    write_frame(events_to, {"event": "hello", "protocol": PROTOCOL_VERSION, "pid": os.getpid()})
    events = Events(events_to, order["load"].get("api_key"))
    with _failures_told(events):
        adapter = _load(order, events)
        for cell in order["cells"]:
            _serve(adapter, order, cell, events)
        events.write({"event": "done"})
        return 0
    return 1


def _keep_stdout() -> BinaryIO:
    """Keep the original stdout for events and point descriptor 1 at stderr: engines print."""
    events = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return events


def _end_with_parent() -> None:
    """End this process and its workers when the supervisor is gone: a killed one cannot."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _failures_told(events: Events) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        kind = "oom" if is_out_of_memory(error) else "error"
        events.write({"event": "failed", "kind": kind, "error": told(error)})


def _load(order: dict[str, Any], events: Events) -> Adapter:
    events.write({"event": "stage", "cell_id": None, "stage": "load"})
    started = time.perf_counter()
    load = Load(**order["load"])
    adapter = adapter_maker(load.engine, load.serving)(load)
    if order.get("fault"):
        adapter = mutated(adapter, order["fault"])
    loaded = adapter.loaded
    events.write(
        {
            "event": "loaded",
            "load_s": time.perf_counter() - started,
            "engine_version": loaded.engine_version,
            "engine_build": loaded.engine_build,
            "compute_dtype": loaded.compute_dtype,
            "kv_dtype": loaded.kv_dtype,
            "device_uuids": loaded.device_uuids,
            "overrides": loaded.overrides,
            "stages": adapter.shown.stages,
            "environment": _environment(loaded.device),
        },
    )
    return adapter


def _serve(adapter: Adapter, order: dict[str, Any], cell: dict[str, Any], events: Events) -> None:
    def tell(stage: str) -> None:
        events.write({"event": "stage", "cell_id": cell["cell_id"], "stage": stage})

    def report(probed: Probed) -> None:
        header = {"event": "trace", "cell_id": cell["cell_id"], **probed.header()}
        events.write(header, probed.arrays)

    if order.get("infect"):
        for case in cell["cases"]:
            _each(probe_infections(adapter, case), report)
        return
    subject = Subject(
        adapter,
        freeze=bool(order.get("freeze")),
        timed=order["load"]["pass_"] == "timed",
    )
    _each(probe_engine(subject, cell["cases"], set(cell["stages"]), tell), report)
    _each(probe_cell(subject, cell["cases"], tell), report)
    events.write({"event": "cell_done", "cell_id": cell["cell_id"]})


def _each(probes: Iterator[Probed], report: Callable[[Probed], None]) -> None:
    for probed in probes:
        report(probed)


def _environment(device: dict[str, str]) -> list[list[str]]:
    """List what the engine runs on, as ``[name, version, kind]``."""
    rows = {(d.metadata["Name"], d.version, "package") for d in importlib.metadata.distributions()}
    facts = [
        ("python", platform.python_version(), "python"),
        ("platform", platform.platform(), "fact"),
        *((name, value, "device") for name, value in device.items()),
    ]
    for name in _VISIBLE:
        if name in os.environ:
            facts.append((name, os.environ[name], "variable"))
    return [list(row) for row in [*facts, *sorted(r for r in rows if r[0])]]
