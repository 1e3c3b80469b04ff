"""Where a fault is placed: config facts, tensors, chain symptoms, ties, and the culprit."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench, Cell

Judge = Callable[[Bench], Judged]
TENSOR = "weights/layers.0.q_proj.weight"


def tensor(bench: Bench, cell: int = 0, **facts: Any) -> None:
    clean = {
        "type": "F32",
        "seen_shape": [64, 64],
        "model_shape": [64, 64],
        "nonfinite": 0,
        "mismatched": 0,
        "relative_rmse": 0.0,
        "scale": 1.0,
        "max_abs": 0.1,
    }
    value = json.dumps({**clean, **facts})
    bench.cells[cell].only.change("weights", TENSOR, value=value)


# Config


def test_a_fact_with_meaning_is_the_culprit_where_nothing_later_shows_it(
    bench: Bench, judged: Judge
) -> None:
    bench.attempt.fact("rms_eps", 1e-6)
    cell = judged(bench).cell()
    assert cell["culprit"] == "config"
    assert "rms_eps 0.000001, the model says 0.00001" in cell["explanation"]


def test_a_fact_is_the_explanation_of_the_later_stage_that_fails(
    bench: Bench, judged: Judge
) -> None:
    """Also when a stage in between diverges for another reason."""
    bench.attempt.fact("rope_theta", 10000.0)
    bench.attempt.change("template", "template/plain", prompt_text="other")
    bench.attempt.logits(0.3)
    cell = judged(bench).cell()
    assert cell["culprit"] == "logits"
    assert cell["culprits"] == "config, template, logits"
    assert "rope_theta 10000, the model says 50000" in cell["explanation"]


def test_a_fact_does_not_explain_a_stage_that_it_cannot_reach(bench: Bench, judged: Judge) -> None:
    bench.attempt.fact("rope_theta", 10000.0)
    bench.attempt.change("stop", "stop/eos", finish_reason="length")
    assert judged(bench).cell()["culprit"] == "config"


def test_facts_that_differ_in_bytes_only_are_noted_and_alarm_nothing(
    bench: Bench, judged: Judge
) -> None:
    bench.attempt.fact("template_digest", "bb")
    bench.attempt.fact("model_name", "renamed")
    found = judged(bench)
    assert found.cell()["verdict"] == "qualified"
    assert 'model_name "renamed"' in found.stage("config")["explanation"]


@pytest.mark.parametrize(
    ("fact", "seen"), [("eos_ids", [3, 2]), ("rms_eps", 9.999999747378752e-06), ("bos_id", 1.0)]
)
def test_equal_facts_in_another_form_are_equal(
    bench: Bench, judged: Judge, fact: str, seen: object
) -> None:
    bench.attempt.fact(fact, seen)
    assert judged(bench).verdict("config") == "qualified"


def test_a_fact_that_the_engine_hides_is_named_and_no_match(bench: Bench, judged: Judge) -> None:
    for trace in bench.attempt.find("config", "config/bos_id"):
        trace.columns |= {"observed": "hidden", "value": None, "error": "does not show it"}
    row = judged(bench).stage("config")
    assert row["n"] == 6
    assert "not shown: config/bos_id" in row["explanation"]


def test_a_fact_that_nothing_is_asked_of_agrees(bench: Bench, judged: Judge) -> None:
    value = json.dumps({"seen": "f16", "model": None})
    bench.attempt.change("config", "config/compute_dtype", value=value)
    assert judged(bench).verdict("config") == "qualified"


# Weights


def test_tensors_are_exact_for_floats_and_bounded_for_quantised_types(
    bench: Bench, judged: Judge
) -> None:
    q8 = {"type": "Q8_0", "mismatched": None}
    facts: dict[str, tuple[str, dict[str, Any]]] = {
        "clean": ("qualified", {}),
        "f16": ("qualified", {"type": "F16", "relative_rmse": 2e-4}),
        "one": ("divergent", {"mismatched": 1}),
        "bf16": ("divergent", {"type": "BF16", "mismatched": 7}),
        "shape": ("divergent", {"seen_shape": [32, 64]}),
        "gone": ("divergent", {"seen_shape": None}),
        "extra": ("divergent", {"model_shape": None}),
        "nan": ("divergent", {"nonfinite": 1}),
        "q8": ("qualified", {**q8, "relative_rmse": 0.0056, "scale": 0.99995}),
        "q8-heavy-tails": ("qualified", {**q8, "relative_rmse": 0.011}),
        "q8-scaled": ("divergent", {**q8, "relative_rmse": 0.0115, "scale": 1.01}),
        "q8-permuted": ("divergent", {**q8, "relative_rmse": 1.3, "scale": 0.1}),
        "q8-zero": ("qualified", {**q8, "relative_rmse": None, "scale": None, "max_abs": 0.0}),
        "q4": ("qualified", {**q8, "type": "Q4_K", "relative_rmse": 0.08, "scale": 0.994}),
        "unknown": ("inconclusive", {**q8, "type": "X9", "relative_rmse": 0.001}),
        "unmeasured": ("inconclusive", {**q8, "relative_rmse": None}),
    }
    bench.cells = [Cell(f"c1:{name}") for name in facts]
    for index, (_, changed) in enumerate(facts.values()):
        tensor(bench, index, **changed)
    found = judged(bench)
    seen = {name: found.verdict("weights", f"c1:{name}") for name in facts}
    assert seen == {name: verdict for name, (verdict, _) in facts.items()}
    told = found.stage("weights", cell="c1:q8-scaled")["explanation"]
    assert "layers.0.q_proj.weight" in told
    assert "1.01" in told


def test_wrong_weights_are_the_culprit_and_not_the_logits_they_spoil(
    bench: Bench, judged: Judge
) -> None:
    tensor(bench, mismatched=4096, relative_rmse=0.7)
    bench.attempt.logits(0.5)
    cell = judged(bench).cell()
    assert cell["culprit"] == "weights"
    assert cell["culprits"] == "weights, logits"


def test_tensors_that_could_not_be_read_are_no_match(bench: Bench, judged: Judge) -> None:
    attempt = bench.attempt
    attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "weights"]
    broken = {"case_id": "*", "stage": "weights", "probe": "tensor", "observed": "path"}
    attempt.traces.append(type(attempt.traces[0])({**broken, "error": "no such file"}))
    row = judged(bench).stage("weights")
    assert row["verdict"] == "inconclusive"
    assert "no such file" in row["reason"]


# The chain


def answer(bench: Bench, case: str, **columns: Any) -> None:
    bench.attempt.change("chain", case, "whole", **columns)


def test_a_chain_difference_with_every_isolate_passing_is_the_interface(
    bench: Bench, judged: Judge
) -> None:
    answer(bench, "chain/plain", text="something else")
    cell = judged(bench).cell()
    assert cell["verdict"] == "divergent"
    assert cell["culprit"] == cell["culprits"] == "interface"
    assert "same tokens, other text" in cell["explanation"]


@pytest.mark.parametrize(
    ("floor_margin", "verdict"), [(100.0, "qualified"), (0.0, "divergent"), (1e-6, "divergent")]
)
def test_a_difference_where_the_reference_was_undecided_is_a_tie(
    bench: Bench, judged: Judge, floor_margin: float, verdict: str
) -> None:
    bench.floor_margin = floor_margin
    answer(bench, "chain/plain", output_ids=[4, 9, 9], text="other")
    found = judged(bench)
    assert found.verdict("chain") == verdict
    assert found.cell()["culprit"] == ("interface" if verdict == "divergent" else None)


def test_without_a_floor_a_tie_cannot_be_told_from_a_symptom(bench: Bench, judged: Judge) -> None:
    bench.floors = 0
    answer(bench, "chain/plain", output_ids=[4, 9, 9])
    row = judged(bench).stage("chain")
    assert row["verdict"] == "inconclusive"
    assert "without a floor" in row["reason"]


def test_a_symptom_is_accounted_for_by_the_isolate_that_can_make_it(
    bench: Bench, judged: Judge
) -> None:
    bench.attempt.change("template", "template/plain", prompt_text="other")
    answer(bench, "chain/plain", prompt_ids=[1, 1, 9], output_ids=[9], text="other")
    found = judged(bench)
    assert found.cell()["culprit"] == "template"
    assert "accounted for by template" in found.stage("chain")["reason"]


def declared(bench: Bench, judged: Judge, stage: str) -> None:
    rows = judged(bench).catalog.rows(f"SELECT * FROM divergences WHERE stage = '{stage}'")
    bench.expected = [
        {
            "engine": "llama_cpp",
            "stage": stage,
            "signature": rows[0]["payload_digest"],
            "reason": "known",
        }
    ]


def test_a_declared_upstream_difference_accounts_for_symptoms_under_its_tags_only(
    bench: Bench, judged: Judge
) -> None:
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    answer(bench, "chain/nfd", prompt_ids=[1, 1, 9], output_ids=[9], text="other")
    declared(bench, judged, "tokenize")
    found = judged(bench)
    assert found.verdict("chain") == "expected"
    assert found.cell()["verdict"] == "qualified"
    answer(bench, "chain/plain", prompt_ids=[1, 1, 9], output_ids=[9], text="other")
    assert judged(bench).cell()["culprit"] == "interface"


def test_a_declared_parser_difference_makes_no_interface(bench: Bench, judged: Judge) -> None:
    raw = json.dumps({"content": "<tool_call>f</tool_call>"})
    bench.attempt.change("parse", "parse/call", message=raw)
    answer(bench, "chain/tools", message=raw)
    answer(bench, "chain/plain", finish_reason="length", message=raw)
    declared(bench, judged, "parse")
    found = judged(bench)
    assert found.verdict("parse") == "expected"
    assert found.cell()["verdict"] == "qualified"


def test_a_message_that_alone_differs_is_the_interface_when_the_parser_passes(
    bench: Bench, judged: Judge
) -> None:
    answer(bench, "chain/tools", message=json.dumps({"content": "other"}))
    assert judged(bench).cell()["culprit"] == "interface"
