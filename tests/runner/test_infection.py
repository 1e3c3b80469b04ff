"""The reference's chain shows the candidate's symptom where the fault is put in, and nowhere else."""

from pathlib import Path
from typing import Any

import pytest

from runner.faults.gguf_edits import faulty_gguf
from runner.freeze import freeze
from runner.order import Engine, WorkOrder
from runner.store import Store
from runner.supervisor import execute
from suites.fault_catalogue import GgufInjection, TensorEdit
from suites.suite import Case, Suite
from tests.engines import engine_python
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
    assert outcome.status == "ok"
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
    injection, swap = FAULTS[fault]
    artifact = faulty_gguf(F32, tmp_path / "faulty.gguf", injection)
    order = make_order(
        suite=SUITE, artifact=artifact, references=(frozen,), reference=_reference()
    )
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
    infected = [
        row
        for (_, probe), row in _answers(order, tmp_path / "results").items()
        if probe.startswith("infect/")
    ]
    assert infected
    assert all("cannot be started" in row["error"] for row in infected)
