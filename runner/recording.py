"""What one attempt at one cell has reported so far, and how it becomes Parquet."""

import datetime as dt
import json
import time
from dataclasses import asdict
from typing import Any

from runner.engines.events import EngineLoaded
from runner.engines.orders import CaseInput
from runner.engines.probes.run import FACTS
from runner.engines.protocol import ProtocolError
from runner.engines.registry import DECLARATIONS
from runner.engines.trace import NOT_OBSERVED, OBSERVED, Timing, Trace
from runner.machine import Machine
from runner.order import CellOrder, Ending, WorkOrder
from runner.stored.store import Store, attempt_name
from runner.stored.tables import AttemptRow, EnvironmentRow, NodeRow, RequestRow, TraceRow
from runner.trace_digest import trace_digest
from runner.truth import question
from suites.stages import CHAIN, STAGES
from suites.suite import Case

_LOAD = "load"
#: Rows and seconds after which what was seen is written, so that our own death loses little.
_FLUSH_ROWS = 512
_FLUSH_S = 10.0


class AttemptRecord:
    """Writes one cell's traces as they come, and at its end the row that commits them."""

    def __init__(self, order: WorkOrder, cell: CellOrder, store: Store) -> None:
        self._order, self._cell, self._store = order, cell, store
        self._name = attempt_name(cell.cell_id, order.node_id, order.attempt)
        self._files: list[str] = []
        self._flushed = time.monotonic()
        self._cases = {case.id: case for case in cell.suite.cases}
        self._traces: list[TraceRow] = []
        self._requests: list[RequestRow] = []
        self._answered: set[str] = set()
        self.symptoms: dict[str, dict[str, Trace]] = {}
        """Chain cases that were swapped in, by id: each of the child's probes by name."""
        self.odd_facts: dict[str, Any] = {}
        """What the engine states and the model does not, by fact."""
        self.weights_differ = False
        """Whether a plain tensor of the artifact is not the model's."""
        self._wholes: dict[str, Trace] = {}
        self._swaps: set[tuple[str, str]] = set()
        self._clock = time.monotonic()
        self.stage_reached: str | None = None
        self.duration_s: float | None = None
        declaration = DECLARATIONS.get(order.engine.engine)
        if declaration and order.engine.serving == "in_process":
            self._show(declaration.shown.stages)
        else:
            # What a server shows is known once it has said what it is: until then, anything.
            self._show(dict.fromkeys((*STAGES, CHAIN), "endpoint"))

    def _show(self, shown: dict[str, str]) -> None:
        if self._order.pass_ == "timed":
            # Nothing is instrumented there: only the requests are timed.
            shown = {stage: how if stage == CHAIN else "not_probed" for stage, how in shown.items()}
        self._shown = dict(shown)

    def loaded(self, shown: dict[str, str]) -> None:
        """Note what the loaded engine shows, and why it does not show the rest."""
        self._show(shown)
        for stage in (*STAGES, CHAIN):
            how = self._shown.get(stage, "not_probed")
            if how not in OBSERVED:
                self._add(
                    case_id="*", stage=stage, probe="none", observed=how, error=NOT_OBSERVED[how]
                )

    @property
    def stages(self) -> list[str]:
        """Stages that the engine shows in this pass."""
        return [stage for stage, how in self._shown.items() if how in OBSERVED]

    @property
    def planned(self) -> list[Case]:
        """Cases to ask: those of shown stages, or the chosen ones among them.

        A freeze asks all: a stage that the reference engine lacks still has inputs to freeze.
        """
        chosen, freeze = self._order.only_cases, self._order.freeze
        return [
            case
            for case in self._cases.values()
            if (freeze or case.stage in self.stages) and (not chosen or case.id in chosen)
        ]

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
        self._answered.add(case.id)
        self._add(
            case_id=case.id,
            case_digest=case.digest,
            tags=list(case.tags),
            stage=case.stage,
            probe="*",
            observed=self._shown[case.stage],
            error=why,
        )

    def trace(self, trace: Trace, model_facts: dict[str, Any]) -> None:
        """Record one trace of the child.

        Raises:
            ProtocolError: it does not fit what was asked.
        """
        stage, case_id, unseen = trace.stage, trace.case_id, trace.unseen
        case, value = self._cases.get(case_id), trace.value
        if stage not in self._shown:
            raise ProtocolError(f"a trace of {stage}, which the engine does not state to show")
        if trace.timing:
            self._request(case_id, trace.timing)
        self._answered.add(case_id)
        if stage == "config" and not unseen:
            fact = case_id.removeprefix("config/")
            value = {**(value or {}), "model": model_facts.get(fact)}
            if value["model"] is not None and value.get("seen") != value["model"]:
                self.odd_facts[fact] = value.get("seen")
        self._add(
            case_id=case_id,
            case_digest=case.digest if case else None,
            tags=list(case.tags) if case else [],
            stage=stage,
            probe=trace.probe,
            observed=unseen or self._shown[stage],
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
        if stage == CHAIN and case:
            self._note_chain(trace)

    def question(self, case_id: str) -> CaseInput:
        """Return what a case asks, as the child takes it."""
        return question(self._cases[case_id])

    def no_swap(self, case_id: str, probe: str, error: str) -> None:
        """Record that a swap brought nothing, unless it did."""
        case = self._cases[case_id]
        if (case_id, probe) not in self._swaps:
            self._swaps.add((case_id, probe))
            self._add(
                case_id=case_id,
                case_digest=case.digest,
                tags=list(case.tags),
                stage=CHAIN,
                probe=probe,
                observed=self._shown.get(CHAIN, "not_probed"),
                error=error,
            )

    def _note_chain(self, trace: Trace) -> None:
        """Keep what swaps start from."""
        case_id, probe = trace.case_id, trace.probe
        if probe == "whole":
            self._wholes[case_id] = trace
        elif "/" in probe:
            self._swaps.add((case_id, probe))
            if probe.startswith("cure/"):
                if case_id not in self._wholes:
                    raise ProtocolError(f"{probe} of {case_id}, which was never asked whole")
                swapped = self.symptoms.setdefault(case_id, {"whole": self._wholes[case_id]})
                swapped[probe] = trace

    def tensor(self, name: str, facts: dict[str, Any]) -> None:
        """Record the facts of one tensor."""
        misshapen = facts["seen_shape"] != facts["model_shape"]
        self.weights_differ |= bool(facts.get("mismatched")) or misshapen
        self._add(
            case_id=f"weights/{name}",
            stage="weights",
            probe="tensor",
            observed=self._shown["weights"],
            value=_dump(facts),
            payload_digest=trace_digest(Trace("weights", name, "tensor", value=facts)),
        )

    def no_weights(self, error: str) -> None:
        """Record that the artifact's tensors could not be compared."""
        self._add(
            case_id="*",
            stage="weights",
            probe="tensor",
            observed=self._shown["weights"],
            error=error,
        )

    def completeness(self) -> Ending:
        """Return ``ok``, or the error that planned cases were never answered."""
        planned = [case.id for case in self.planned]
        if "config" in self.stages and not self._order.freeze:
            planned += [f"config/{fact}" for fact in FACTS]
        missing = [case_id for case_id in planned if case_id not in self._answered]
        if not missing:
            return Ending(status="ok")
        text = f"the engine child left {len(missing)} cases unanswered, the first is {missing[0]}"
        return Ending(status="error", error=text)

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
            for n, v, k in (loaded.environment if loaded else ())
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
        self._traces.append(TraceRow(**self._keys, **storable))
        due = time.monotonic() - self._flushed > _FLUSH_S
        if len(self._traces) >= _FLUSH_ROWS or due:
            self._flush()

    def _flush(self) -> None:
        if self._traces:
            part = sum(file.startswith("traces/") for file in self._files)
            name = f"{self._name}-p{part}"
            self._files.append(self._store.write(self._order.run_id, "traces", name, self._traces))
        self._traces, self._flushed = [], time.monotonic()

    def _request(self, case_id: str, timing: Timing) -> None:
        self._requests.append(
            RequestRow(
                **self._keys,
                case_id=case_id,
                load_pattern="sequential",
                concurrency=1,
                ok=bool(timing.output_tokens) or timing.ttft_s is not None,
                **asdict(timing),
            )
        )


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


def _storable(value: Any) -> Any:
    """Replace lone surrogates, which an engine's text may hold and UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value


def _dump(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
