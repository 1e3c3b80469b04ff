"""Hand-made evidence: a small clean run whose rows a test changes before it is judged.

Nothing here ran an engine. The rows have the shape that the runner stores, with numbers small
enough to reason about.
"""

import datetime as dt
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runner.stored.frozen_tables import FloorRow, ReferenceRow
from runner.stored.store import Store
from runner.stored.tables import (
    AttemptRow,
    CaseRow,
    NodeRow,
    PlanRow,
    RequestRow,
    RunRow,
)
from tests.analysis.handmade_traces import Trace, clean_traces
from tests.analysis.handmade_truth import (
    CASES,
    FACTS,
    LOGITS,
    chain_answer,
    chain_logits,
    digest_of,
    distribution,
    stage_of,
    true_ids,
    true_logits,
)

NOW = dt.datetime(2026, 5, 1, 12, tzinfo=dt.UTC)
RUN = "20260501-120000-abcd"
WEIGHTS, TOKENIZER, MODEL = "w1:model", "t1:model", "tiny"
FUNCTION = "fn1:model"
REQUIRED = [
    "instrument",
    "config",
    "weights",
    "template",
    "tokenize",
    "logits",
    "stop",
    "detokenize",
    "parse",
]


@dataclass
class Attempt:
    """One attempt at a cell."""

    number: int = 1
    status: str = "ok"
    error: str | None = None
    signal: str | None = None
    stage_reached: str | None = None
    traces: list[Trace] = field(default_factory=clean_traces)
    compute_dtype: str = "f32"
    engine_version: str = "0.3.16"

    def find(self, stage: str, case_id: str, probe: str | None = None) -> list[Trace]:
        found = [
            t
            for t in self.traces
            if t.columns["stage"] == stage
            and t.columns["case_id"] == case_id
            and probe in (None, t.columns["probe"])
        ]
        assert found, (stage, case_id, probe)
        return found

    def change(self, stage: str, case_id: str, probe: str | None = None, **columns: Any) -> None:
        for trace in self.find(stage, case_id, probe):
            trace.columns |= columns

    def drop(self, stage: str, case_id: str, probe: str | None = None) -> None:
        gone = self.find(stage, case_id, probe)
        self.traces = [t for t in self.traces if t not in gone]

    def fail(self, stage: str, case_id: str, error: str) -> None:
        for trace in self.find(stage, case_id):
            kept = ("case_id", "case_digest", "tags", "stage", "probe", "observed")
            trace.columns = {k: trace.columns[k] for k in kept if k in trace.columns}
            trace.columns["error"] = error

    def fact(self, name: str, seen: Any, model: Any = None) -> None:
        model = FACTS[name] if model is None else model
        body = json.dumps({"seen": seen, "model": model})
        self.change("config", f"config/{name}", value=body)

    def signature(self, stage: str, case_id: str, probe: str | None = None) -> str:
        """Return the digest by which a declaration names what this attempt brought."""
        digest = self.find(stage, case_id, probe)[0].payload_digest
        assert digest is not None
        return digest

    def logits(self, noise: float, *, cases: tuple[str, ...] = LOGITS, seed: int = 1) -> None:
        """Add Gaussian noise of this size to the logits of some cases."""
        for case_id in cases:
            z = true_logits(case_id)
            z = z + np.random.default_rng(seed).normal(0, noise, z.shape)
            self.change("logits", case_id, None, **distribution(z, true_ids(case_id)))


@dataclass
class Cell:
    """A planned cell on one node."""

    cell_id: str = "c1:0001"
    node_id: str = "node-a"
    attempts: list[Attempt] = field(default_factory=lambda: [Attempt()])
    engine: str = "llama_cpp"
    kind: str = "llama_cpp"
    serving: str = "in_process"
    variant: str = "f32"
    pass_: str = "structure"
    margin: float | None = 1e-7
    required: list[str] = field(default_factory=lambda: list(REQUIRED))
    reason: str | None = None

    @property
    def only(self) -> Attempt:
        (attempt,) = self.attempts
        return attempt


@dataclass
class Bench:
    """A results root in the making."""

    root: Path
    run_id: str = RUN
    references: str = "references"
    """The folder below the root that holds this run's references."""
    cells: list[Cell] = field(default_factory=lambda: [Cell()])
    expected: list[dict[str, Any]] = field(default_factory=list)
    floors: int = 24
    floor_kl: float = 1e-9
    floor_margin: float = 0.01
    golden_weights: str = WEIGHTS
    golden: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Golden answers of some cases, where they are not the usual."""
    unasked: dict[str, str] = field(default_factory=dict)
    """Stage without cases → why the suite has none."""
    function: str | None = FUNCTION
    """What the plan names; a plan of an earlier version names none."""
    frozen_functions: tuple[str | None, ...] = (FUNCTION,)
    """Whose truths and floors there are, all over the same weights; None as in earlier versions."""
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the reference answers to some chain cases, where it is not the usual."""
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What some cases ask, where that matters."""
    more_cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Cases beyond the usual, and what they ask."""
    silent_cases: tuple[str, ...] = ()
    """Forced cases to which the reference answers nothing."""
    reference_cases: tuple[str, ...] = (
        *LOGITS,
        *(c for c in CASES if stage_of(c) in ("chain", "logits")),
    )

    @property
    def results(self) -> str:
        return str(self.root)

    @property
    def attempt(self) -> Attempt:
        (cell,) = self.cells
        return cell.only

    def write(self) -> str:
        """Write everything; return the results root."""
        store = Store(self.results)
        config = {
            "matrix_path": "matrix.yaml",
            "expected": self.expected,
            "references": [f"{self.results}/{self.references}"],
            "only": None,
            "unasked": {"smoke": self.unasked},
        }
        run = RunRow(run_id=self.run_id, config=json.dumps(config), code_version="0", started=NOW)
        store.write(self.run_id, "runs", "start", [run])
        store.write(self.run_id, "runs", "end", [run.model_copy(update={"finished": NOW})])
        store.write(
            self.run_id, "cases", "cases", [self._case(c) for c in (*CASES, *self.more_cases)]
        )
        store.write(self.run_id, "plan", "plan", [self._plan(c) for c in self.cells])
        for cell in self.cells:
            for attempt in cell.attempts:
                self._write_attempt(store, cell, attempt)
        for function in self.frozen_functions:
            name = f"{function}.parquet".replace(":", "-")
            for folder, row, rows in (
                ("", ReferenceRow, self._references()),
                ("floors/", FloorRow, self._floors()),
            ):
                path = f"{self.references}/{folder}{name}"
                update = {"function_digest": function}
                store.write_to(path, [r.model_copy(update=update) for r in rows], row)
                if function is None:
                    earlier = store.read_file(path).drop_columns(["function_digest"])
                    store.write_table(path, earlier)
        return self.results

    def _case(self, case_id: str) -> CaseRow:
        return CaseRow(
            run_id=self.run_id,
            suite="smoke",
            suite_version=1,
            suite_digest="u1:x",
            golden_weights_digest=self.golden_weights,
            case_id=case_id,
            case_digest=digest_of(case_id),
            stage=stage_of(case_id),
            **{
                "tags": [],
                "input": json.dumps(self.more_cases.get(case_id, self.inputs.get(case_id, {}))),
                **CASES.get(case_id, {}),
                **self.golden.get(case_id, {}),
            },
        )

    def _plan(self, cell: Cell) -> PlanRow:
        return PlanRow(
            run_id=self.run_id,
            cell_id=cell.cell_id,
            node_id=cell.node_id,
            series_id="s1:" + cell.cell_id[3:],
            suite="smoke",
            suite_version=1,
            model=MODEL,
            variant=cell.variant,
            engine=cell.engine,
            engine_kind=cell.kind,
            serving=cell.serving,
            backend="cpu",
            pass_=cell.pass_,
            hardware="amd-epyc-9454",
            reason=cell.reason,
            margin=cell.margin,
            required=cell.required,
            weights_type="f32",
            weights_digest=WEIGHTS,
            function_digest=self.function,
            tokenizer_digest=TOKENIZER,
            model_weights_digest=WEIGHTS,
        )

    def _write_attempt(self, store: Store, cell: Cell, attempt: Attempt) -> None:
        keys = {
            "run_id": self.run_id,
            "cell_id": cell.cell_id,
            "node_id": cell.node_id,
            "attempt": attempt.number,
        }
        name = f"{cell.cell_id}-{cell.node_id}-a{attempt.number}".replace(":", "-")
        node = NodeRow(
            **keys,
            hardware="amd-epyc-9454",
            devices=[],
            cpu="EPYC",
            cpu_count=2,
            memory=1,
            driver="1.0",
        )
        request = RequestRow(
            **keys,
            case_id="chain/plain",
            load_pattern="sequential",
            concurrency=1,
            prompt_tokens=2,
            output_tokens=4,
            ttft_s=0.1,
            itl_s=[0.01, 0.02, 0.03],
            e2el_s=0.16,
            ok=True,
        )
        files = [
            store.write(self.run_id, "traces", name, [t.row(keys) for t in attempt.traces]),
            store.write(self.run_id, "nodes", name, [node]),
            store.write(self.run_id, "requests", name, [request]),
        ]
        row = AttemptRow(
            **keys,
            status=attempt.status,
            stage_reached=attempt.stage_reached,
            error=attempt.error,
            signal=attempt.signal,
            started=NOW,
            duration_s=1.0,
            engine_version=attempt.engine_version,
            compute_dtype=attempt.compute_dtype,
            kv_dtype="f32",
            hardware="amd-epyc-9454",
            files=files,
        )
        store.write(self.run_id, "attempts", name, [row])

    def _references(self) -> list[ReferenceRow]:
        rows = []
        for case_id in dict.fromkeys(self.reference_cases):
            probes: list[tuple[str, dict[str, Any]]]
            if stage_of(case_id) == "logits":
                numbers = distribution(true_logits(case_id))
                silent = case_id in self.silent_cases
                answer = {"output_ids": [] if silent else [3]}
                forced = {"prompt_ids": [1, 2, 3], **answer, **numbers}
                probes = [("prefill", forced)] + ([] if silent else [("decode", forced)])
            else:
                numbers = distribution(chain_logits(case_id))
                probes = [
                    ("whole", {**numbers, **chain_answer(case_id), **self.answers.get(case_id, {})})
                ]
            for probe, columns in probes:
                rows.append(
                    ReferenceRow(
                        reference_id="r1:frozen",
                        function_digest=FUNCTION,
                        weights_digest=WEIGHTS,
                        tokenizer_digest=TOKENIZER,
                        model=MODEL,
                        variant="f32",
                        suite="smoke",
                        engine="transformers",
                        engine_version="5.0",
                        compute_dtype="f32",
                        created=NOW,
                        case_id=case_id,
                        case_digest=digest_of(case_id),
                        stage=stage_of(case_id),
                        probe=probe,
                        **columns,
                    )
                )
        return rows

    def _floors(self) -> list[FloorRow]:
        random = np.random.default_rng(3)
        return [
            FloorRow(
                floor_id="f1:floor",
                function_digest=FUNCTION,
                weights_digest=WEIGHTS,
                tokenizer_digest=TOKENIZER,
                suite="smoke",
                compute_dtype="f32",
                backend="cpu",
                probe=probe,
                engine="transformers",
                engine_version="5.0",
                configuration=json.dumps({"threads": i}),
                mean_kl=float(self.floor_kl * np.exp(random.normal(0, 0.3))),
                max_kl=1e-6,
                positions=72,
                flips=0,
                max_flip_margin=self.floor_margin,
                created=NOW,
            )
            for i in range(self.floors)
            for probe in ("prefill", "decode")
        ]
