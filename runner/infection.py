"""Infection: what the candidate made at one stage, put into the reference's chain.

If the reference then shows the candidate's symptom, the fault lies in what was put there. It is
asked only of chain cases whose answer differed from the truth (the candidate's child has left
``cure/…`` traces of them), and only where the reference engine is installed on this node.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.child.protocol import ProtocolError
from runner.model_copies import PORTABLE, with_facts, with_weights
from runner.order import Engine, WorkOrder
from runner.process import ChildProcess, DeadlinePassed
from runner.recording import AttemptRecord
from suites.errors import UserError

#: Seconds that one reference child may take, beyond what the order has left.
_LEAST_S = 45.0


@dataclass(frozen=True)
class _Host:
    """One reference child: the model it loads, and what is put into the chain of each case."""

    probe: str
    model: Path
    cells: list[dict[str, Any]]


def infect(order: WorkOrder, records: Mapping[str, AttemptRecord], time_left_s: float) -> None:
    """Run the reference's chain with the candidate's outputs; record what came, or why nothing."""
    cells = [
        {"cell_id": cell_id, "cases": cases}
        for cell_id, record in records.items()
        if (cases := _infectable(record))
    ]
    if order.reference is None or not cells:
        return
    with tempfile.TemporaryDirectory(prefix="fleetqual-infect-") as folder:
        for host in _hosts(order, records, cells, Path(folder)):
            failure = _run(order, order.reference, host, records, max(time_left_s, _LEAST_S))
            if failure:
                _record_failure(host, records, failure)


def _infectable(record: AttemptRecord) -> list[dict[str, Any]]:
    """Return the symptomatic cases of a cell, with the candidate's portable outputs."""
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
        found.append({**record.question(case_id), "infections": portable})
    return found


def _hosts(
    order: WorkOrder,
    records: Mapping[str, AttemptRecord],
    cells: list[dict[str, Any]],
    folder: Path,
) -> Iterator[_Host]:
    yield _Host("", order.model.hf, cells)
    record = next(iter(records.values()))
    if record.weights_differ:
        whole = _plainly(cells, "infect/weights")
        try:
            with_weights(
                order.model.hf, order.variant.path, order.variant.format, folder / "weights"
            )
            yield _Host("infect/weights", folder / "weights", whole)
        except (UserError, OSError, ValueError) as error:
            _record_failure(_Host("", folder, whole), records, f"its weights: {error}")
    facts = {name: value for name, value in record.odd_facts.items() if name in PORTABLE}
    if facts:
        with_facts(order.model.hf, facts, folder / "config")
        yield _Host("infect/config", folder / "config", _plainly(cells, "infect/config"))


def _plainly(cells: list[dict[str, Any]], probe: str) -> list[dict[str, Any]]:
    """The same cases with nothing put in: what is foreign is in the model's files."""
    return [
        {**cell, "cases": [{**case, "infections": [{"probe": probe}]} for case in cell["cases"]]}
        for cell in cells
    ]


def _run(
    order: WorkOrder,
    engine: Engine,
    host: _Host,
    records: Mapping[str, AttemptRecord],
    deadline_s: float,
) -> str | None:
    """Run one reference child; return why it brought less than was asked."""
    body = {
        "event": "order",
        "engine": engine.engine,
        "freeze": False,
        "load": {
            "path": str(host.model),
            "backend": "cpu",
            "pass_": "structure",
            "weights_type": "f32",
            "options": engine.options,
        },
        "cells": [{**cell, "stages": []} for cell in host.cells],
    }
    failed: str | None = None
    try:
        with ChildProcess(engine.python, deadline_s) as child:
            child.send(body)
            for header, arrays in child.events():
                if header["event"] == "trace":
                    records[header["cell_id"]].trace(header, arrays, {})
                elif header["event"] == "failed":
                    failed = str(header["error"])[:500]
            code = child.exit_code()
            return failed or (f"the reference child exited with {code}" if code else None)
    except DeadlinePassed:
        return f"the reference child did not end within {deadline_s:.0f} s"
    except (ProtocolError, KeyError, TypeError, ValueError) as error:
        return f"the reference child spoke no event: {error!r}"[:500]
    except OSError as error:
        return f"the reference engine cannot be started: {error}"


def _record_failure(host: _Host, records: Mapping[str, AttemptRecord], failure: str) -> None:
    """Record each infection that brought nothing."""
    for cell in host.cells:
        record = records[cell["cell_id"]]
        for case in cell["cases"]:
            for infection in case["infections"]:
                record.no_swap(case["id"], infection["probe"], failure)
