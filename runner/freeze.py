"""Making the truth: the reference engine's traces, frozen with where they came from.

A freeze runs the same child and the same probes as a qualification; only that each stage takes
what the engine itself made before it. Quantised variants are frozen over their own dequantised
weights, so that a wrong conversion and a wrong kernel are told apart.
"""

import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from runner.artifact import GgufFile, HfFolder
from runner.order import Variant, WorkOrder
from runner.store import Store
from runner.supervisor import execute
from runner.tables import FloorRow, ReferenceRow
from suites.digest import tagged_digest
from suites.errors import UserError

#: Columns that a reference takes over from the trace it freezes.
_FROZEN = frozenset(ReferenceRow.model_fields) & {
    "case_id",
    "case_digest",
    "stage",
    "probe",
    "prompt_text",
    "prompt_ids",
    "output_ids",
    "logprobs",
    "ref_topk_logprobs",
    "tail_logprob",
    "top_ids",
    "text",
    "message",
    "finish_reason",
    "value",
    "payload_digest",
}


def freeze(orders: Sequence[WorkOrder], out: str) -> list[str]:
    """Run every freezing order and write one reference file for each; return their paths.

    Raises:
        UserError: an order did not end ``ok``; nothing of it is written.
    """
    store, written = Store(out), []
    for order in orders:
        rows = _frozen_rows(order)
        name = f"{order.model.name}-{order.variant.name}-{order.cells[0].suite.name}.parquet"
        store.write_to(name, rows, ReferenceRow)
        written.append(store.path(name))
    return written


def show(roots: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per frozen set: what, over which weights, by which engine, when."""
    found: dict[str, dict[str, Any]] = {}
    columns = ("model", "variant", "suite", "engine", "engine_version", "compute_dtype", "created")
    for path, row in _rows(roots):
        entry = found.setdefault(
            row["reference_id"],
            {"reference_id": row["reference_id"], **{c: row[c] for c in columns}}
            | {"weights_digest": row["weights_digest"], "traces": 0, "file": path},
        )
        entry["traces"] += 1
    return list(found.values())


def verify(roots: Sequence[str]) -> list[str]:
    """Return what is wrong with the references: damaged files, changed payloads; empty if nothing.

    Every page's checksum is read, and every ``reference_id`` is computed again over its rows.
    """
    problems: list[str] = []
    for root in roots:
        store = Store(root)
        for path in store.parquet_files(""):
            try:
                rows = store.read_file(path).to_pylist()
            except UserError as error:
                problems.append(str(error))
                continue
            for given in sorted({row["reference_id"] for row in rows}):
                own = [row for row in rows if row["reference_id"] == given]
                if _reference_id(own) != given:
                    problems.append(f"{store.path(path)}: the rows of {given} were changed")
    return problems


def _rows(roots: Sequence[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    for root in roots:
        store = Store(root)
        for path in store.parquet_files(""):
            for row in store.read_file(path).to_pylist():
                yield store.path(path), row


def _frozen_rows(order: WorkOrder) -> list[ReferenceRow]:
    with tempfile.TemporaryDirectory(prefix="fleetqual-freeze-") as folder:
        runnable = order
        if order.variant.format == "gguf":
            copy = Path(folder) / "dequantised"
            dequantised_copy(order.model.hf, order.variant.path, copy)
            variant = {"format": "hf", "path": copy, "weights_type": "f32"}
            runnable = order.model_copy(
                update={"variant": order.variant.model_copy(update=variant)}
            )
        results = str(Path(folder) / "results")
        failed = [o for o in execute(runnable, results) if o.status != "ok"]
        if failed:
            raise UserError(
                f"the reference engine ended with {failed[0].status}: {failed[0].error}",
                where=f"{order.engine.engine} on {order.model.name}/{order.variant.name}",
                fix="mend the engine's environment (`fleetqual doctor`) and freeze again",
            )
        store = Store(results)
        traces = [
            {name: row[name] for name in _FROZEN}
            for row in store.read(order.run_id, "traces")
            if row["case_digest"] is not None and row["error"] is None and _has_truth(row)
        ]
        (attempt, *_) = store.read(order.run_id, "attempts")
    traces.sort(key=lambda row: (row["stage"], row["case_id"], row["probe"]))
    common = {
        "weights_digest": _weights(order.variant, order),
        "tokenizer_digest": order.model.tokenizer_digest,
        "model": order.model.name,
        "variant": order.variant.name,
        "suite": order.cells[0].suite.name,
        "engine": order.engine.engine,
        "engine_version": f"{attempt['engine_version']} ({attempt['engine_build']})",
        "compute_dtype": attempt["compute_dtype"],
        "created": dt.datetime.now(dt.UTC),
    }
    reference_id = _reference_id(traces)
    return [ReferenceRow(reference_id=reference_id, **common, **row) for row in traces]


def _weights(variant: Variant, order: WorkOrder) -> str:
    return variant.weights_digest if variant.quantised else order.model.weights_digest


def _has_truth(row: dict[str, Any]) -> bool:
    return bool(row["payload_digest"]) and row["stage"] not in ("instrument", "config", "weights")


def _reference_id(rows: Sequence[dict[str, Any]]) -> str:
    """Digest what was frozen, in a fixed order; floats enter by their float32 bytes."""
    body = [
        {name: _exact(row[name]) for name in sorted(_FROZEN)}
        for row in sorted(rows, key=lambda r: (r["stage"], r["case_id"], r["probe"]))
    ]
    return tagged_digest("r1", body)


def _exact(value: Any) -> Any:
    if isinstance(value, list) and value and not isinstance(value[0], str | int):
        flat = np.concatenate([np.atleast_1d(np.asarray(v, "<f4")) for v in value])
        return [len(value), flat.tobytes().hex()]
    return value


def dequantised_copy(hf: Path, quantised: Path, out: Path) -> None:
    """Write a model folder like ``hf`` whose weights are the dequantised ones of a GGUF file.

    Raises:
        UserError: the GGUF file lacks a tensor of the model.
    """
    truth, artifact = HfFolder(hf), GgufFile(quantised).tensors()
    missing = [name for name in truth.names.values() if name not in artifact]
    if missing:
        raise UserError(f"tensor {missing[0]} is missing", where=str(quantised))
    out.mkdir(parents=True)
    for path in hf.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, out / path.name)
    config = {**truth.config, "dtype": "float32"}
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    values = {name: artifact[ours].values() for name, ours in truth.names.items()}
    save_file(values, out / "model.safetensors", metadata={"format": "pt"})


def write_floor(rows: Sequence[FloorRow], out: str) -> str:
    """Write one floor beneath a reference root; return its path."""
    store = Store(out)
    first = rows[0]
    name = f"floors/{first.suite}-{first.compute_dtype}-{first.floor_id.replace(':', '-')}.parquet"
    store.write_to(name, rows, FloorRow)
    return store.path(name)
