"""Freezing: the reference engine's traces become the truth, stored with their provenance.

A freeze runs the same child and the same probes as a qualification, but each stage takes what the
engine itself made before it. Quantised variants are frozen over their own dequantised weights:
so a wrong conversion and a wrong kernel can be distinguished.
"""

import datetime as dt
import functools
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.engines.events import Event
from runner.engines.trace import NOT_OBSERVED
from runner.model.artifact import HfFolder
from runner.model.copies import with_weights
from runner.order import CellOrder, WorkOrder
from runner.stored.frozen_tables import FROZEN, FloorRow, ReferenceRow, reference_id
from runner.stored.store import Store
from runner.supervisor import Watch, execute
from suites.digest import tagged_digest
from suites.errors import UserError

#: Receives each event of the engine that works on an order.
Listen = Callable[[WorkOrder, Event], None]

#: What to do about a freeze that did not end well.
_TOO_SLOW = "give it more time (`timeout_s` of the matrix, or a larger --budget), and run it again"
_BROKEN = "repair the engine's environment (`fleetqual doctor`) and freeze again"


def _ignore(_order: WorkOrder, _event: Event) -> None:
    """Do nothing with an event."""


class NoTruth(UserError):
    """Cases to which the reference engine gave no answer; all others are frozen."""


def freeze(orders: Sequence[WorkOrder], out: str, listen: Listen = _ignore) -> list[str]:
    """Run every freezing order and write one reference file for each suite; return their paths.

    ``listen`` receives every event of the engine.

    Raises:
        NoTruth: cases are left without an answer; every suite that is complete is written, and of
            the others nothing.
        UserError: a variant cannot be dequantised, or an order did not end ``ok``; nothing of that
            order is written.
    """
    return _frozen(orders, out, listen, partial=False)


def freeze_missing(orders: Sequence[WorkOrder], out: str, listen: Listen = _ignore) -> list[str]:
    """Freeze like ``freeze``, and also write what is there of suites that are not complete."""
    return _frozen(orders, out, listen, partial=True)


def _frozen(orders: Sequence[WorkOrder], out: str, listen: Listen, *, partial: bool) -> list[str]:
    for order in orders:
        _refuse_packed(order)
    store, written, gaps = Store(out), list[str](), list[NoTruth]()
    for order in orders:
        for cell, rows, gap in _frozen_cells(order, functools.partial(listen, order)):
            if gap is not None:
                gaps.append(gap)
            if rows and (gap is None or partial):
                name = _file_name(order, cell)
                store.write_to(name, rows, ReferenceRow)
                written.append(store.path(name))
    if gaps:
        raise gaps[0]
    return written


def _file_name(order: WorkOrder, cell: CellOrder) -> str:
    """Return one name for each set: freezing it again replaces its file and no other.

    The digest covers the identity of the set. A set of chosen cases has another identity than the
    whole suite, so that it replaces nothing. The names before the digest are for people; characters
    that a file name cannot hold (``org/name@commit``) are replaced.
    """
    suite = cell.suite.name
    identity = [order.reference_function, order.model.tokenizer_digest, suite]
    if order.only_cases:
        chosen = [case.digest for case in cell.suite.cases if case.id in order.only_cases]
        identity += sorted(chosen)
    digest = tagged_digest("n1", identity, 8).removeprefix("n1:")
    names = (order.model.name, order.variant.name, suite)
    return f"{'-'.join(_safe(name) for name in names)}-{digest}.parquet"


def _safe(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)[:60]


def _refuse_packed(order: WorkOrder) -> None:
    if order.variant.format != "hf":
        return
    if packed := HfFolder(order.variant.path).quantisation:
        raise UserError(
            f"cannot dequantise {packed} yet, so the variant has no truth over its own weights",
            where=f"{order.model.name}/{order.variant.name}",
            fix="leave this variant out of the matrix that you freeze",
        )


def _frozen_cells(
    order: WorkOrder, watch: Watch
) -> Iterator[tuple[CellOrder, list[ReferenceRow], NoTruth | None]]:
    """Run an order; yield each suite with its rows, and the error of its cases without truth."""
    with tempfile.TemporaryDirectory(prefix="fleetqual-freeze-") as folder:
        runnable = order
        if order.variant.format == "gguf":
            copy = Path(folder) / "dequantised"
            if order.variant.is_model(order.model):
                # The model's folder was made from this file: it has these weights.
                copy = order.model.hf
            else:
                with_weights(order.model.hf, order.variant.path, "gguf", copy)
            variant = {"format": "hf", "path": copy, "weights_type": "f32"}
            runnable = order.model_copy(
                update={"variant": order.variant.model_copy(update=variant)}
            )
        results = str(Path(folder) / "results")
        failed = [o for o in execute(runnable, results, watch) if o.status != "ok"]
        if failed:
            raise UserError(
                f"the reference engine ended with {failed[0].status}: {failed[0].error}",
                where=_place(order),
                fix=_TOO_SLOW if failed[0].status == "timeout" else _BROKEN,
            )
        store = Store(results)
        seen = store.read(order.run_id, "traces")
        (attempt, *_) = store.read(order.run_id, "attempts")
    for cell in order.cells:
        own = [row for row in seen if row["cell_id"] == cell.cell_id]
        yield cell, _rows_of(order, cell, own, attempt), _gaps(order, own)


def _rows_of(
    order: WorkOrder, cell: CellOrder, seen: Sequence[dict[str, Any]], attempt: dict[str, Any]
) -> list[ReferenceRow]:
    traces = [{name: row[name] for name in FROZEN} for row in seen if _has_truth(row)]
    traces.sort(key=lambda row: (row["stage"], row["case_id"], row["probe"]))
    common = {
        "function_digest": order.reference_function,
        "weights_digest": order.reference_weights,
        "tokenizer_digest": order.model.tokenizer_digest,
        "model": order.model.name,
        "variant": order.variant.name,
        "suite": cell.suite.name,
        "engine": order.engine.engine,
        "engine_version": f"{attempt['engine_version']} ({attempt['engine_build']})",
        "compute_dtype": attempt["compute_dtype"],
        "created": dt.datetime.now(dt.UTC),
    }
    named = reference_id([{**common, **row} for row in traces])
    return [ReferenceRow(reference_id=named, **common, **row) for row in traces]


def _gaps(order: WorkOrder, seen: Sequence[dict[str, Any]]) -> NoTruth | None:
    """Return an error if a case has no truth: nothing would judge it, and nobody would notice."""
    refused = {case.id for cell in order.cells for case in cell.suite.cases if case.golden.refused}
    failed = {
        row["case_id"]: row["error"]
        for row in seen
        if row["case_digest"] and row["error"] and row["observed"] not in NOT_OBSERVED
        if row["case_id"] not in refused
    }
    if not failed:
        return None
    first, error = next(iter(sorted(failed.items())))
    return NoTruth(
        f"{len(failed)} cases have no truth ({', '.join(sorted(failed))}); {first}: {error}",
        where=_place(order),
        fix="fix the cases or the engine, and freeze again",
    )


def _place(order: WorkOrder) -> str:
    return f"{order.engine.engine} on {order.model.name}/{order.variant.name}"


def _has_truth(row: dict[str, Any]) -> bool:
    answered = row["case_digest"] is not None and row["error"] is None and row["payload_digest"]
    return bool(answered) and row["stage"] not in ("instrument", "config", "weights")


def write_floor(rows: Sequence[FloorRow], out: str) -> str:
    """Write one floor below a reference root; return its path."""
    store = Store(out)
    first = rows[0]
    digest = first.floor_id.replace(":", "-")
    name = f"floors/{_safe(first.suite)}-{first.compute_dtype}-{digest}.parquet"
    store.write_to(name, rows, FloorRow)
    return store.path(name)
