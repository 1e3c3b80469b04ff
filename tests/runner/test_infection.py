"""The symptom appears in the reference's chain where the fault is put in, and nowhere else."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.injections import GgufInjection, TensorEdit
from runner import infection
from runner.ending import Ending
from runner.engines.engine import Engine
from runner.engines.protocol import ProtocolError
from runner.engines.trace import Trace
from runner.freeze import freeze
from runner.machine import this_machine
from runner.model.artifact import GgufFile, HfFolder
from runner.model.known_facts import KnownFacts
from runner.order import WorkOrder
from runner.recording import AttemptRecord
from runner.stored.store import Store
from runner.supervisor import execute
from suites.suite import Case, Suite
from tests.engines import engine_python, sleeping_python
from tests.paths import TINY_CHAT
from tests.runner.conftest import OrderMaker

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
SUITE = Suite(
    name="chains",
    version=1,
    requires=("template",),
    cases=tuple(
        Case(
            id=f"chain/{number}",
            stage="chain",
            messages=({"role": "user", "content": text},),
            max_tokens=24,
        )
        for number, text in enumerate(("19 + 6 = ?", "Count from 17 to 40.", "Hello!"))
    ),
)
#: Fault → the injection, and the swap that brings its symptom into the reference's chain.
FAULTS: dict[str, tuple[GgufInjection, str]] = {
    "template": (
        GgufInjection(template=("'<|body|>\\n\\n'", "'<|body|>\\n'")),
        "infect/template",
    ),
    "weights": (
        GgufInjection(tensors=(TensorEdit(name="blk.*.attn_[qk].weight", op="unpermute"),)),
        "infect/weights",
    ),
    "config": (GgufInjection(fields={"llama.rope.freq_base": 10.0}), "infect/config"),
}
Answers = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def frozen(make_order: OrderMaker, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("frozen"))
    freeze([make_order("transformers", freeze=True, suite=SUITE, options={"threads": 1})], root)
    return root


def _answers(order: WorkOrder, results: Path) -> Answers:
    (outcome,) = execute(order, str(results))
    assert outcome.status == "ok", outcome.error
    rows = Store(str(results)).read(order.run_id, "traces")
    return {(r["case_id"], r["probe"]): r for r in rows if r["stage"] == "chain"}


def _reference(python: str | None = None) -> Engine:
    return Engine(
        name="transformers",
        engine="transformers",
        python=python or engine_python("transformers"),
        options={"threads": 1},
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_the_symptom_follows_the_part_that_is_put_into_the_reference(
    fault: str, make_order: OrderMaker, frozen: str, tmp_path: Path
) -> None:
    put_in, swap = FAULTS[fault]
    artifact = faulty_gguf(F32, tmp_path / "faulty.gguf", put_in)
    order = make_order(suite=SUITE, artifact=artifact, references=(frozen,), reference=_reference())
    seen = _answers(order, tmp_path / "results")
    swapped = sorted({case for case, probe in seen if probe.startswith("infect/")})
    assert swapped
    assert all(seen[case, swap]["error"] is None for case in swapped)
    # Rounding may part the engines late in an answer that means nothing: the beginning must agree.
    assert any(
        seen[case, swap]["output_ids"][:8] == seen[case, "whole"]["output_ids"][:8]
        for case in swapped
    )
    if fault != "template":
        # The placebo: the candidate's prompt is right, so the reference answers rightly.
        whole = {c: seen[c, "whole"]["output_ids"] for c in swapped}
        assert all(seen[c, "infect/tokenize"]["output_ids"] != whole[c] for c in swapped)


def test_a_healthy_chain_is_never_infected(
    make_order: OrderMaker, frozen: str, tmp_path: Path
) -> None:
    order = make_order(suite=SUITE, references=(frozen,), reference=_reference())
    assert not [probe for _, probe in _answers(order, tmp_path / "results") if "/" in probe]


def test_a_reference_that_hangs_costs_the_infections_and_not_the_attempt(
    make_order: OrderMaker, frozen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All infections end this long before the deadline, so that no test waits for it.
    monkeypatch.setattr(infection, "OVERTIME_S", -100.0)
    artifact = faulty_gguf(F32, tmp_path / "faulty.gguf", FAULTS["template"][0])
    order = make_order(
        suite=SUITE,
        artifact=artifact,
        references=(frozen,),
        reference=_reference(sleeping_python(tmp_path)),
        deadline_s=110,
    )
    infected = _infections(_answers(order, tmp_path / "results"))
    assert infected
    for row in infected:
        assert "infections end -100 s after the deadline" in row["error"]


def test_an_infection_that_breaks_is_told_and_the_attempt_is_written(
    make_order: OrderMaker, frozen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(infection, "_run", broken)
    artifact = faulty_gguf(F32, tmp_path / "faulty.gguf", FAULTS["template"][0])
    order = make_order(suite=SUITE, artifact=artifact, references=(frozen,), reference=_reference())
    infected = _infections(_answers(order, tmp_path / "results"))
    assert infected
    assert {row["error"] for row in infected} == {"RuntimeError: nobody thought of this"}


def _symptomatic(order: WorkOrder, results: Path) -> AttemptRecord:
    record = AttemptRecord(order, order.cells[0], Store(str(results)))
    for probe in ("whole", "cure/template"):
        record.trace(Trace("chain", "chain/0", probe, output_ids=[1, 2]), KnownFacts({}))
    return record


@pytest.mark.parametrize(("artifact", "same"), [("f32", True), ("q8_0", False)])
def test_the_reference_runs_over_the_weights_that_the_truth_was_made_over(
    artifact: str,
    same: bool,
    make_order: OrderMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []

    def run(_order: WorkOrder, _engine: Engine, host: Any, *_: object) -> None:
        loaded.append(HfFolder(host.model()).tensors()["output.weight"].values())

    monkeypatch.setattr(infection, "_run", run)
    path = TINY_CHAT / f"tiny-chat-{artifact}.gguf"
    order = make_order(suite=SUITE, artifact=path, reference=_reference("python"))
    records = {order.cells[0].cell_id: _symptomatic(order, tmp_path)}
    infection.infect(order, records, time.monotonic() + 60)
    model = HfFolder(TINY_CHAT).tensors()["output.weight"].values()
    assert [np.array_equal(weights, model) for weights in loaded] == [same]
    own = GgufFile(path).tensors()["output.weight"].values()
    np.testing.assert_array_equal(loaded[0], own)


def test_weights_that_take_too_long_to_copy_are_not(
    make_order: OrderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infection, "LARGEST_COPY", 1 << 20)
    path = TINY_CHAT / "tiny-chat-q8_0.gguf"
    order = make_order(suite=SUITE, artifact=path, reference=_reference("python"))
    record = _symptomatic(order, tmp_path)
    infection.infect(order, {order.cells[0].cell_id: record}, time.monotonic() + 60)
    record.write(Ending(status="ok"), dt.datetime.now(dt.UTC), None, this_machine())
    rows = Store(str(tmp_path)).read(order.run_id, "traces")
    (told,) = [row["error"] for row in rows if row["probe"] == "infect/sampling"]
    assert "fp32 weights are not copied" in told


def test_a_swap_in_a_case_that_was_never_asked_whole_is_refused(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    order = make_order(suite=SUITE)
    record = AttemptRecord(order, order.cells[0], Store(str(tmp_path)))
    with pytest.raises(ProtocolError, match="never asked whole"):
        record.trace(Trace("chain", "chain/0", "cure/logits"), KnownFacts({}))


def test_a_chain_case_that_nobody_asked_is_no_symptom(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    order = make_order(suite=SUITE)
    record = AttemptRecord(order, order.cells[0], Store(str(tmp_path)))
    record.trace(Trace("chain", "chain/x", "cure/logits"), KnownFacts({}))
    assert record.swaps.infections() == []


def _infections(answers: Answers) -> list[dict[str, Any]]:
    return [row for (_, probe), row in answers.items() if probe.startswith("infect/")]


def test_a_reference_that_cannot_start_costs_the_infections_and_not_the_attempt(
    make_order: OrderMaker, frozen: str, tmp_path: Path
) -> None:
    artifact = faulty_gguf(F32, tmp_path / "faulty.gguf", FAULTS["template"][0])
    order = make_order(
        suite=SUITE,
        artifact=artifact,
        references=(frozen,),
        reference=_reference(str(tmp_path / "no-python")),
    )
    infected = _infections(_answers(order, tmp_path / "results"))
    assert infected
    assert all("cannot be started" in row["error"] for row in infected)
