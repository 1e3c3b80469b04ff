"""One attempt at one cell as Parquet: rows as they come, and at the end the committing row."""

import datetime as dt
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from pydantic import ValidationError

from runner.completeness import ALL_STAGES, Completeness
from runner.ending import Ending
from runner.engines.events import EngineLoaded
from runner.engines.protocol import ProtocolError
from runner.engines.trace import NOT_OBSERVED, OBSERVED, Timing, Trace
from runner.machine import Machine
from runner.model.known_facts import KnownFacts
from runner.order import CellOrder, Model, WorkOrder
from runner.stored.store import Store, attempt_name
from runner.stored.tables import AttemptRow, EnvironmentRow, NodeRow, RequestRow, TraceRow
from runner.swaps import SwapCandidates
from runner.trace_digest import trace_digest
from suites.suite import Case

R = TypeVar("R", TraceRow, RequestRow)

_LOAD = "load"
#: Rows and seconds after which rows are written, so that the supervisor's own death loses little.
_FLUSH_ROWS = 512
_FLUSH_S = 10.0


class AttemptRecord:
    """Writes the traces of one cell as they come, and at its end the row that commits them."""

    def __init__(self, order: WorkOrder, cell: CellOrder, store: Store) -> None:
        self._order, self._cell, self._store = order, cell, store
        self._name = attempt_name(cell.cell_id, order.node_id, order.attempt)
        self._files: list[str] = []
        self._flushed = time.monotonic()
        self._traces: list[TraceRow] = []
        self._requests: list[RequestRow] = []
        self._clock = time.monotonic()
        self.completeness = Completeness(order, cell)
        self.swaps = SwapCandidates(self.completeness.cases)
        self.stage_reached: str | None = None
        self.duration_s: float | None = None
        """Seconds that the child took for this cell; None until it has served it."""

    def loaded(self, shown: dict[str, str]) -> None:
        """Note what the loaded engine shows, and record why it does not show the rest."""
        self.completeness.show(shown)
        for stage in ALL_STAGES:
            how = self.completeness.shown[stage]
            if how not in OBSERVED:
                why = self.completeness.why_unseen(stage)
                self._add(case_id="*", stage=stage, probe="none", observed=how, error=why)

    @property
    def options(self) -> dict[str, Any]:
        """Return the benign options of this cell."""
        return self._cell.options

    @property
    def done(self) -> bool:
        """Whether the child said that it had served this cell."""
        return self.duration_s is not None

    def start(self, stage: str) -> None:
        """Note the stage that the child is working on."""
        if self.stage_reached in (None, _LOAD):
            self._clock = time.monotonic()
        self.stage_reached = stage

    def finish(self) -> None:
        """Note that the child has served all cases."""
        self.duration_s = time.monotonic() - self._clock

    def miss(self, case: Case, why: str) -> None:
        """Record a planned case that cannot be asked."""
        self.completeness.answered(case.id)
        self._add_case(case, probe="*", error=why)

    def trace(self, trace: Trace, known: KnownFacts) -> None:
        """Record one trace of the child.

        Raises:
            ProtocolError: it does not fit what was asked.
        """
        stage, case_id, value = trace.stage, trace.case_id, trace.value
        if stage not in self.completeness.shown:
            raise ProtocolError(f"a trace of {stage!r}, which is no stage"[:200])
        self.completeness.answered(case_id)
        self.swaps.note(trace)
        if trace.timing:
            self._request(case_id, trace.timing)
        unseen = trace.unseen
        if stage == "config":
            fact = case_id.removeprefix("config/")
            value = known.value(fact, None if unseen else value or {})
            if value is not None:
                unseen = None
                self.swaps.note_fact(fact, value.get("seen"), value["model"])
            elif known.is_nothing(fact):
                return
        case = self.completeness.cases.get(case_id)
        self._add(
            case_id=case_id,
            case_digest=case.digest if case else None,
            tags=list(case.tags) if case else [],
            stage=stage,
            probe=trace.probe,
            observed=unseen or self.completeness.shown[stage],
            repeat=trace.repeat,
            prompt_text=trace.prompt_text,
            prompt_ids=trace.prompt_ids,
            output_ids=trace.output_ids,
            text=trace.text,
            message=_dump(trace.message),
            finish_reason=trace.finish_reason,
            value=_dump(value),
            payload_digest=trace_digest(trace),
            error=trace.error or (NOT_OBSERVED[unseen] if unseen else None),
            seconds=trace.seconds,
            **{name: array.tolist() for name, array in trace.arrays.items()},
        )

    def no_swap(self, case_id: str, probe: str, error: str) -> None:
        """Record that a swap has no answer, unless it has one."""
        if self.swaps.note_swap(case_id, probe):
            self._add_case(self.completeness.cases[case_id], probe=probe, error=error)

    def tensor(self, name: str, facts: dict[str, Any]) -> None:
        """Record the facts of one tensor."""
        self.swaps.note_tensor(facts)
        trace = Trace("weights", f"weights/{name}", "tensor", value=facts)
        self._add(
            case_id=trace.case_id,
            stage="weights",
            probe="tensor",
            observed=self.completeness.shown["weights"],
            value=_dump(facts),
            payload_digest=trace_digest(trace),
        )

    def no_weights(self, error: str) -> None:
        """Record that the artifact's tensors could not be compared."""
        self._add(
            case_id="*",
            stage="weights",
            probe="tensor",
            observed=self.completeness.shown["weights"],
            error=error,
        )

    def unknown_weights(self, why: str) -> None:
        """Record that nobody knows how to compare the artifact's tensors."""
        self._add(case_id="*", stage="weights", probe="none", observed="not_probed", error=why)

    def write(
        self,
        ending: Ending,
        started: dt.datetime,
        loaded: EngineLoaded | None,
        machine: Machine,
    ) -> None:
        """Write all files of this attempt, the committing row last."""
        order, keys = self._order, self._keys
        environment = [
            EnvironmentRow(**keys, name=n, version=v, kind=k)
            for n, v, k in (*(loaded.environment if loaded else ()), *_taken_from(order.model))
        ]
        node = NodeRow(
            **keys,
            hardware=order.hardware,
            devices=[d.uuid for d in machine.devices],
            cpu=machine.cpu,
            cpu_count=machine.cpu_count,
            memory=machine.memory,
            driver=machine.driver,
            runtime_versions=json.dumps(machine.runtime_versions),
            power_limit=machine.power_limit,
            clocks=json.dumps(machine.clocks),
            temperature=machine.temperature,
            labels=json.dumps(machine.labels),
        )
        self._flush()
        self._files += [
            self._store.write(order.run_id, table, self._name, rows)
            for table, rows in (
                ("requests", self._requests),
                ("environment", environment),
                ("nodes", [node]),
            )
            if rows
        ]
        row = AttemptRow(
            **keys,
            **ending.model_dump(),
            **_loaded_columns(loaded),
            stage_reached=self.stage_reached,
            started=started,
            duration_s=self.duration_s or (dt.datetime.now(dt.UTC) - started).total_seconds(),
            hardware=order.hardware,
            files=self._files,
        )
        self._store.write(order.run_id, "attempts", self._name, [row])

    @property
    def _keys(self) -> dict[str, Any]:
        order = self._order
        return {
            "run_id": order.run_id,
            "cell_id": self._cell.cell_id,
            "node_id": order.node_id,
            "attempt": order.attempt,
        }

    def _add(self, **columns: Any) -> None:
        storable = {name: _storable(value) for name, value in columns.items()}
        self._traces.append(_row(TraceRow, **self._keys, **storable))
        due = time.monotonic() - self._flushed > _FLUSH_S
        if len(self._traces) >= _FLUSH_ROWS or due:
            self._flush()

    def _add_case(self, case: Case, **columns: Any) -> None:
        self._add(
            case_id=case.id,
            case_digest=case.digest,
            tags=list(case.tags),
            stage=case.stage,
            observed=self.completeness.shown[case.stage],
            **columns,
        )

    def _flush(self) -> None:
        if self._traces:
            part = sum(file.startswith("traces/") for file in self._files)
            name = f"{self._name}-p{part}"
            self._files.append(self._store.write(self._order.run_id, "traces", name, self._traces))
        self._traces, self._flushed = [], time.monotonic()

    def _request(self, case_id: str, timing: Timing) -> None:
        self._requests.append(
            _row(
                RequestRow,
                **self._keys,
                case_id=case_id,
                load_pattern="sequential",
                concurrency=1,
                ok=bool(timing.output_tokens) or timing.ttft_s is not None,
                **asdict(timing),
            )
        )


#: Cell id → the record of its attempt.
Records = Mapping[str, AttemptRecord]


def record_of(records: Records, cell_id: str) -> AttemptRecord:
    """Return the record of a cell; ProtocolError if the child names one that was not ordered."""
    if cell_id not in records:
        raise ProtocolError(f"cell {cell_id!r} was not ordered"[:200])
    return records[cell_id]


def _taken_from(model: Model) -> list[tuple[str, str, str]]:
    """Return, as a fact of the attempt, the GGUF that was taken as the model; else nothing."""
    digest = model.gguf_digest
    return [] if digest is None else [("model_taken_from_gguf", digest[:16], "fact")]


def _loaded_columns(loaded: EngineLoaded | None) -> dict[str, Any]:
    if loaded is None:
        return {"device_count": 0}
    return {
        "load_s": loaded.load_s,
        "engine_version": loaded.engine_version,
        "engine_build": loaded.engine_build,
        "device_count": len(loaded.device_uuids),
        "device_uuids": loaded.device_uuids,
        "compute_dtype": loaded.compute_dtype,
        "kv_dtype": loaded.kv_dtype,
        "probe_overrides": json.dumps(loaded.overrides),
    }


def _row(kind: type[R], **columns: Any) -> R:
    """Return a row of a table; ProtocolError if a value does not fit its column."""
    try:
        return kind(**columns)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(f"{columns['case_id']}: {place}: {first['msg']}"[:300]) from error


def _storable(value: Any) -> Any:
    """Replace lone surrogates, which an engine's text may hold and UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def _dump(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
