"""Where a fault is placed: config facts, tensors, chain symptoms, ties, and the culprit."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import (
    CASES,
    Attempt,
    Bench,
    Cell,
    Trace,
    distribution,
    runner_up,
    true_ids,
    true_logits,
)

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


# The chain


def answer(bench: Bench, case: str, **columns: Any) -> None:
    bench.attempt.change("chain", case, "whole", **columns)


@arranged
def test_a_chain_difference_with_every_isolate_passing_is_the_interface(bench: Bench) -> Halves:
    answer(bench, "chain/plain", text="something else")
    cell = (yield).cell()
    assert cell["verdict"] == "divergent"
    assert cell["culprit"] == cell["culprits"] == "interface"
    assert "every observed stage agrees" in cell["explanation"]
    assert "same tokens, different text" in cell["explanation"]


@arranged
@pytest.mark.parametrize("floor_margin", [0.0, 0.05, 0.1])
def test_the_references_near_choice_is_a_tie_within_the_margin_of_benign_flips(
    bench: Bench, floor_margin: float
) -> Halves:
    bench.floor_margin = floor_margin
    token, behind = runner_up("chain/plain", 1)
    assert 0.05 < behind < 0.1
    answer(bench, "chain/plain", output_ids=[4, token, 9], text="other")
    bench.attempt.change("chain", "chain/plain", "stream", text="other")
    found = yield
    tied = floor_margin > behind
    assert found.verdict("chain") == ("qualified" if tied else "divergent")
    assert found.cell()["culprit"] == (None if tied else "interface")
    if tied:
        assert "(2 ties)" in found.stage("chain")["explanation"]


@arranged
def test_a_tie_needs_a_token_that_the_reference_ranked_and_an_answer_that_goes_on(
    bench: Bench,
) -> Halves:
    """However undecided the reference was: garbage and silence are no choice between equals."""
    bench.floor_margin = 100.0
    answers: dict[str, list[int]] = {
        "unranked": [31337, 9, 9],
        "silent": [],
        "cut": [4, 5],
        "longer": [4, 5, 6, 2, 7],
    }
    bench.cells = [Cell(f"c1:{name}") for name in answers]
    for cell, ids in zip(bench.cells, answers.values(), strict=True):
        cell.only.change("chain", "chain/plain", "whole", output_ids=ids, text="other")
    found = yield
    assert {found.verdict("chain", cell.cell_id) for cell in bench.cells} == {"divergent"}
    assert "did not rank" in found.cell("c1:unranked")["explanation"]


@arranged
def test_a_cells_own_flips_count_for_ties_where_its_logits_are_qualified(bench: Bench) -> Halves:
    """The floor does not know the KV dtype; a broken engine must not excuse itself, though."""
    bench.floor_margin = 0.0
    bench.cells = [Cell("c1:close", margin=0.5), Cell("c1:far", margin=1e-3)]
    token, _ = runner_up("chain/plain", 1)
    for cell in bench.cells:
        cell.only.logits(0.6)
        cell.only.change("chain", "chain/plain", "whole", output_ids=[4, token, 9])
    found = yield
    verdicts = [
        (found.verdict("logits", c.cell_id), found.verdict("chain", c.cell_id)) for c in bench.cells
    ]
    assert verdicts == [("qualified", "qualified"), ("divergent", "divergent")]
    (row,) = found.rows("alignments", "cell_id = 'c1:close' AND outcome = 'tie'")
    assert "this cell's own flips reach" in row["detail"]


@arranged
def test_without_a_floor_a_tie_cannot_be_told_from_a_symptom(bench: Bench) -> Halves:
    bench.floors = 0
    answer(bench, "chain/plain", output_ids=[4, runner_up("chain/plain", 1)[0], 9])
    row = (yield).stage("chain")
    assert row["verdict"] == "inconclusive"
    assert "without a floor" in row["reason"]


@arranged
def test_another_prompt_is_a_symptom_though_the_answer_is_the_same(bench: Bench) -> Halves:
    answer(bench, "chain/plain", prompt_ids=[1, 1, 9])
    cell = (yield).cell()
    assert cell["verdict"] == "divergent"
    assert cell["culprit"] == "interface"
    assert "the prompt ids differ" in cell["explanation"]


@arranged
def test_a_prompt_that_the_engine_does_not_show_is_no_symptom(bench: Bench) -> Halves:
    answer(bench, "chain/plain", prompt_ids=[])
    assert (yield).verdict("chain") == "qualified"


def stream(bench: Bench, case: str, text: str, cell: int = 0) -> None:
    bench.cells[cell].only.change("chain", case, "stream", text=text)


@arranged
def test_a_stream_that_says_something_else_is_a_symptom_of_its_own(bench: Bench) -> Halves:
    bench.cells = [Cell("c1:alone"), Cell("c1:caused"), Cell("c1:gone")]
    for index in (0, 1):
        stream(bench, "chain/plain", "answer to", index)
    bench.cells[1].only.change("detokenize", "detokenize/emoji", "stream", text="ok")
    bench.cells[2].only.drop("chain", "chain/plain", "stream")
    found = yield
    alone, caused = found.cell("c1:alone"), found.cell("c1:caused")
    assert alone["culprit"] == "interface"
    assert "the streamed text differs" in alone["explanation"]
    assert caused["culprit"] == "detokenize"
    assert "explained by detokenize" in found.stage("chain", cell="c1:caused")["reason"]
    assert found.verdict("chain", "c1:gone") == "inconclusive"


@arranged
def test_a_stream_whose_message_is_another_is_the_parsers(bench: Bench) -> Halves:
    bench.cells = [Cell("c1:alone"), Cell("c1:caused"), Cell("c1:same")]
    for index, name in enumerate(("g", "g", "f")):
        calls = [{"name": name, "arguments": '{"b": 1, "a": 2}'}]
        body = json.dumps({"content": "answer to chain/tools", "tool_calls": calls})
        whole = body.replace('"g"', '"f"')
        bench.cells[index].only.change("chain", "chain/tools", "whole", message=whole)
        bench.cells[index].only.change("chain", "chain/tools", "stream", message=body)
    bench.answers["chain/tools"] = {"message": whole}
    bench.cells[1].only.change("parse", "parse/call", "stream", message=body)
    found = yield
    assert "the streamed message differs" in found.cell("c1:alone")["explanation"]
    assert found.cell("c1:alone")["culprit"] == "interface"
    assert found.cell("c1:caused")["culprit"] == "parse"
    assert found.cell("c1:same")["verdict"] == "qualified"


@arranged
def test_a_server_that_tells_thinking_apart_is_held_against_the_message(bench: Bench) -> Halves:
    message = {"content": "7", "reasoning_content": "3 + 4", "tool_calls": []}
    bench.cells = [Cell("c1:same"), Cell("c1:other")]
    bench.answers["chain/tools"] = {"text": "3 + 4</think>7", "message": json.dumps(message)}
    for index, thought in enumerate(("3 + 4", "3 + 4\n")):
        told = json.dumps({**message, "reasoning_content": thought})
        for probe in ("whole", "stream"):
            bench.cells[index].only.change(
                "chain", "chain/tools", probe, text="7", message=told, finish_reason="stop"
            )
    found = yield
    assert found.cell("c1:same")["verdict"] == "qualified"
    assert "same text, different message" in found.cell("c1:other")["explanation"]


def test_a_declared_loss_of_the_stream_accounts_for_its_tags(
    bench: Bench, judged: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CASES["detokenize/emoji"], "tags", ["plain"])
    bench.cells = [Cell()]
    bench.attempt.change("detokenize", "detokenize/emoji", "stream", text="ok")
    stream(bench, "chain/plain", "answer to")
    declared(bench, judged, "detokenize")
    found = judged(bench)
    assert found.verdict("chain") == "expected"
    assert found.cell()["verdict"] == "qualified"
    stream(bench, "chain/tools", "answer to")
    assert judged(bench).cell()["culprit"] == "interface"


@arranged
def test_a_symptom_is_accounted_for_by_the_isolate_that_can_make_it(bench: Bench) -> Halves:
    bench.attempt.change("template", "template/plain", prompt_text="other")
    answer(bench, "chain/plain", prompt_ids=[1, 1, 9], output_ids=[9], text="other")
    found = yield
    assert found.cell()["culprit"] == "template"
    assert "explained by template" in found.stage("chain")["reason"]


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


def test_a_declared_parser_difference_accounts_for_what_there_is_to_parse(
    bench: Bench, judged: Judge
) -> None:
    raw = json.dumps({"content": "<tool_call>f</tool_call>"})
    called = json.dumps({"tool_calls": [{"name": "f", "arguments": "{}"}]})
    bench.answers = {"chain/tools": {"message": called, "finish_reason": "tool_calls"}}
    bench.inputs = {"chain/nfd": {"template_options": {"enable_thinking": True}}}
    changes: dict[str, tuple[str, str, dict[str, Any]]] = {
        "raw-calls": ("expected", "chain/tools", {}),
        "thinking": ("expected", "chain/nfd", {"message": raw}),
        "plain-message": ("divergent", "chain/plain", {"message": raw}),
        "plain-finish": ("divergent", "chain/plain", {"finish_reason": "length"}),
        "thinking-finish": ("divergent", "chain/nfd", {"finish_reason": "length"}),
    }
    bench.cells = [Cell(f"c1:{name}") for name in changes]
    for cell, (_, case, columns) in zip(bench.cells, changes.values(), strict=True):
        cell.only.change("parse", "parse/call", message=raw)
        cell.only.change("chain", "chain/tools", "whole", message=raw, finish_reason="stop")
        cell.only.change("chain", case, "whole", **columns)
    declared(bench, judged, "parse")
    found = judged(bench)
    assert {found.verdict("parse", cell.cell_id) for cell in bench.cells} == {"expected"}
    verdicts = {name: found.verdict("chain", f"c1:{name}") for name in changes}
    assert verdicts == {name: verdict for name, (verdict, _, _) in changes.items()}
    assert found.cell("c1:plain-finish")["culprit"] == "interface"


@arranged
def test_a_message_that_alone_differs_is_the_interface_when_the_parser_passes(
    bench: Bench,
) -> Halves:
    answer(bench, "chain/tools", message=json.dumps({"content": "other"}))
    assert (yield).cell()["culprit"] == "interface"


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
    assert "isolates none" in found.cell("c1:timed")["explanation"]


@arranged
def test_nothing_is_blamed_where_what_could_have_made_it_was_to_be_seen_and_failed(
    bench: Bench,
) -> Halves:
    answer(bench, "chain/plain", text="other")
    bench.attempt.fail("detokenize", "detokenize/emoji", "boom")
    cell = (yield).cell()
    assert (cell["verdict"], cell["culprit"]) == ("divergent", None)
    assert "detokenize: 2 of 2 not compared" in cell["explanation"]
