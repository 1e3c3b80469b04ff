"""Infection: what the candidate made at one stage, put into the reference's chain.

If the reference then shows the candidate's symptom, the fault lies in what was put there. It is
asked only of chain cases whose answer differed from the truth (the candidate's child has left
``cure/…`` traces of them), and only where the reference engine is installed on this node.
"""

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.engines.failures import told
from runner.engines.protocol import ProtocolError
from runner.engines.registry import DECLARATIONS
from runner.model.artifact import HfFolder
from runner.model.copies import PORTABLE, with_facts, with_weights
from runner.order import Engine, WorkOrder
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
#: Options for the number of threads. One thread adds up in one order, as when the truth was made.
_THREADS = ("threads", "n_threads", "n_threads_batch")

Records = Mapping[str, AttemptRecord]


@dataclass(frozen=True)
class _Host:
    """One reference child: what is put into the chain of each case, and the model it loads."""

    cells: list[dict[str, Any]]
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
        {"cell_id": cell_id, "cases": cases}
        for cell_id, record in records.items()
        if (cases := _infectable(record))
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
            _record_failure(left, records, told(error))


def _infectable(record: AttemptRecord) -> list[dict[str, Any]]:
    """Return the symptomatic cases of a cell that left anything to put in, with what they left."""
    found = []
    for case_id, symptom in record.symptoms.items():
        whole, argmax = symptom["whole"], symptom.get("cure/sampling", {}).get("value") or {}
        infections = [
            {"probe": "infect/template", "prompt_text": whole.get("prompt_text")},
            {"probe": "infect/tokenize", "prompt_ids": whole.get("prompt_ids")},
            {"probe": "infect/logits", "script": argmax.get("script_ids")},
            {"probe": "infect/sampling", "script": whole.get("output_ids")},
        ]
        portable = [i for i in infections if any(v for k, v in i.items() if k != "probe")]
        if portable:
            found.append({**record.question(case_id), "infections": portable})
    return found


def _hosts(
    order: WorkOrder,
    records: Records,
    cells: list[dict[str, Any]],
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
        with_facts(base(), facts, folder / "config")
        return folder / "config"

    hosts, record = [_Host(cells, base)], next(iter(records.values()))
    facts = {name: value for name, value in record.odd_facts.items() if name in PORTABLE}
    if record.weights_differ:
        hosts.append(_Host(_plainly(cells, "infect/weights"), own_weights))
    if facts:
        hosts.append(_Host(_plainly(cells, "infect/config"), own_facts))
    return hosts


def _plainly(cells: list[dict[str, Any]], probe: str) -> list[dict[str, Any]]:
    """The same cases with nothing put in: what is foreign is in the model's files."""
    return [
        {**cell, "cases": [{**case, "infections": [{"probe": probe}]} for case in cell["cases"]]}
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
            child.send(_child_order(engine, model, host.cells))
            for header, arrays in child.events():
                if header["event"] == "trace":
                    records[header["cell_id"]].trace(header, arrays, {})
                elif header["event"] == "failed":
                    failed = str(header["error"])[:500]
            code = child.exit_code()
            return failed or (f"the reference child exited with {code}" if code else None)
    except DeadlinePassed:
        return f"the reference child did not end in time: {limit}"
    except (ProtocolError, KeyError, TypeError, ValueError) as error:
        return f"the reference child spoke no event: {error!r}"[:500]
    except OSError as error:
        return f"the reference engine cannot be started: {error}"


def _child_order(engine: Engine, model: Path, cells: list[dict[str, Any]]) -> dict[str, Any]:
    declaration = DECLARATIONS.get(engine.engine)
    declared = declaration.option_names if declaration else ()
    one_thread = {name: 1 for name in _THREADS if name in declared}
    return {
        "event": "order",
        "infect": True,
        "load": {
            "path": str(model),
            "backend": "cpu",
            "pass_": "structure",
            "weights_type": "f32",
            "options": {**engine.options, **one_thread},
            "engine": engine.engine,
        },
        "cells": cells,
    }


def _record_failure(cells: list[dict[str, Any]], records: Records, failure: str) -> None:
    """Record each infection that brought nothing."""
    for cell in cells:
        record = records[cell["cell_id"]]
        for case in cell["cases"]:
            for infection in case["infections"]:
                record.no_swap(case["id"], infection["probe"], failure)
