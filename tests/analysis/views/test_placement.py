"""Where a fault is placed: config facts, tensors, chain symptoms, ties, and the culprit."""

import json
from typing import Any

import numpy as np
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.handmade import Attempt, Bench, Cell
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import distribution, true_ids, true_logits

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


@arranged
def test_a_fact_with_meaning_is_the_culprit_where_nothing_later_shows_it(bench: Bench) -> Halves:
    bench.attempt.fact("rms_eps", 1e-6)
    cell = (yield).cell()
    assert cell["culprit"] == "config"
    assert "rms_eps 0.000001, the model says 0.00001" in cell["explanation"]


@arranged
def test_a_fact_is_the_explanation_of_the_later_stage_that_fails(bench: Bench) -> Halves:
    """Also when a stage in between diverges for another reason."""
    bench.attempt.fact("rope_theta", 10000.0)
    bench.attempt.change("template", "template/plain", prompt_text="other")
    bench.attempt.logits(0.3)
    cell = (yield).cell()
    assert cell["culprit"] == "logits"
    assert cell["culprits"] == "config, template, logits"
    assert "rope_theta 10000, the model says 50000" in cell["explanation"]


@arranged
def test_a_fact_does_not_explain_a_stage_that_it_cannot_reach(bench: Bench) -> Halves:
    bench.attempt.fact("rope_theta", 10000.0)
    bench.attempt.change("stop", "stop/eos", finish_reason="length")
    assert (yield).cell()["culprit"] == "config"


@arranged
def test_facts_that_differ_in_bytes_only_are_noted_and_alarm_nothing(bench: Bench) -> Halves:
    bench.attempt.fact("template_digest", "bb")
    bench.attempt.fact("model_name", "renamed")
    found = yield
    assert found.cell()["verdict"] == "qualified"
    assert 'model_name "renamed"' in found.stage("config")["explanation"]


@arranged
@pytest.mark.parametrize(
    ("fact", "seen"), [("eos_ids", [3, 2]), ("rms_eps", 9.999999747378752e-06), ("bos_id", 1.0)]
)
def test_equal_facts_in_another_form_are_equal(bench: Bench, fact: str, seen: object) -> Halves:
    bench.attempt.fact(fact, seen)
    assert (yield).verdict("config") == "qualified"


@arranged
def test_a_fact_that_the_engine_hides_is_named_and_no_match(bench: Bench) -> Halves:
    for trace in bench.attempt.find("config", "config/bos_id"):
        trace.columns |= {"observed": "hidden", "value": None, "error": "does not show it"}
    row = (yield).stage("config")
    assert row["n"] == 6
    assert "not shown: config/bos_id" in row["explanation"]


@arranged
def test_a_fact_that_nothing_is_asked_of_agrees(bench: Bench) -> Halves:
    value = json.dumps({"seen": "f16", "model": None})
    bench.attempt.change("config", "config/compute_dtype", value=value)
    assert (yield).verdict("config") == "qualified"


# Weights


@arranged
def test_tensors_are_exact_for_floats_and_bounded_for_quantised_types(bench: Bench) -> Halves:
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
    found = yield
    seen = {name: found.verdict("weights", f"c1:{name}") for name in facts}
    assert seen == {name: verdict for name, (verdict, _) in facts.items()}
    told = found.stage("weights", cell="c1:q8-scaled")["explanation"]
    assert "layers.0.q_proj.weight" in told
    assert "1.01" in told


@arranged
def test_wrong_weights_are_the_culprit_and_not_the_logits_they_spoil(bench: Bench) -> Halves:
    tensor(bench, mismatched=4096, relative_rmse=0.7)
    bench.attempt.logits(0.5)
    cell = (yield).cell()
    assert cell["culprit"] == "weights"
    assert cell["culprits"] == "weights, logits"


@arranged
def test_tensors_that_could_not_be_read_are_no_match(bench: Bench) -> Halves:
    attempt = bench.attempt
    attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "weights"]
    broken = {"case_id": "*", "stage": "weights", "probe": "tensor", "observed": "path"}
    attempt.traces.append(type(attempt.traces[0])({**broken, "error": "no such file"}))
    row = (yield).stage("weights")
    assert row["verdict"] == "inconclusive"
    assert "no such file" in row["reason"]


# The culprit


def unsteady(attempt: Attempt) -> None:
    """Let a repeat give other numbers than the first answer."""
    noisy = true_logits("logits/l0") + np.random.default_rng(1).normal(0, 1, (12, 32))
    numbers = distribution(noisy, true_ids("logits/l0"))
    attempt.change("instrument", "logits/l0", "reordered", **numbers)


@arranged
def test_a_broken_instrument_outranks_no_part_and_decides_nothing_alone(bench: Bench) -> Halves:
    names = ("alone", "logits", "stop", "weights", "chain", "message")
    bench.cells = [Cell(f"c1:{name}") for name in names]
    attempts = {name: cell.only for name, cell in zip(names, bench.cells, strict=True)}
    for attempt in attempts.values():
        unsteady(attempt)
    attempts["logits"].logits(0.5)
    attempts["stop"].change("stop", "stop/eos", finish_reason="length")
    tensor(bench, 3, mismatched=1)
    attempts["chain"].change("chain", "chain/plain", "whole", output_ids=[9, 9])
    attempts["message"].change("chain", "chain/plain", "whole", finish_reason="length")
    found = yield
    cells = {name: found.cell(f"c1:{name}") for name in names}
    verdicts = {name: (cell["verdict"], cell["culprit"]) for name, cell in cells.items()}
    assert verdicts == {
        "alone": ("inconclusive", "instrument"),
        "logits": ("inconclusive", "instrument"),
        "stop": ("divergent", "stop"),
        "weights": ("divergent", "weights"),
        "chain": ("inconclusive", "instrument"),
        "message": ("divergent", None),
    }
    assert cells["stop"]["culprits"] == "instrument, stop"
    assert "asked in another order" in cells["alone"]["explanation"]
    assert found.verdict("chain", "c1:chain") == "inconclusive"


@arranged
def test_what_was_not_observed_is_not_blamed_for_what_it_cannot_make(bench: Bench) -> Halves:
    """A hidden template spells no text of given tokens; the timed pass isolates nothing at all."""
    bench.cells = [Cell("c1:hidden"), Cell("c1:timed", pass_="timed", margin=None, required=[])]
    for cell in bench.cells:
        cell.only.change("chain", "chain/plain", "whole", text="other")
    hidden, timed = (cell.only for cell in bench.cells)
    hidden.traces = [t for t in hidden.traces if t.columns["stage"] != "template"]
    star = {"case_id": "*", "stage": "template", "probe": "none", "observed": "hidden"}
    hidden.traces.append(Trace(star))
    timed.traces = [t for t in timed.traces if t.columns["stage"] == "chain"]
    found = yield
    for name, culprit in (("hidden", "interface"), ("timed", None)):
        assert found.cell(f"c1:{name}")["verdict"] == "divergent"
        assert found.cell(f"c1:{name}")["culprit"] == culprit
    assert "isolates no stage" in found.cell("c1:timed")["explanation"]


@arranged
def test_nothing_is_blamed_where_what_could_have_made_it_was_to_be_seen_and_failed(
    bench: Bench,
) -> Halves:
    bench.attempt.change("chain", "chain/plain", "whole", text="other")
    bench.attempt.fail("detokenize", "detokenize/emoji", "boom")
    cell = (yield).cell()
    assert (cell["verdict"], cell["culprit"]) == ("divergent", None)
    assert "detokenize: 2 of 2 cases not compared" in cell["explanation"]
