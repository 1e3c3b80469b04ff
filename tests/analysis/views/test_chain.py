"""Answers of the whole chain: symptoms, ties, and the isolate that accounts for them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench, Cell
from tests.analysis.handmade_truth import CASES, runner_up

Judge = Callable[[Bench], Judged]


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
    assert "not among the reference's top tokens" in found.cell("c1:unranked")["explanation"]


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
    declared(bench, "detokenize", "detokenize/emoji", "stream")
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


def declared(bench: Bench, stage: str, case: str, probe: str | None = None) -> None:
    """Declare what the first cell brings for a case of this stage."""
    signature = bench.cells[0].only.signature(stage, case, probe)
    entry = {"engine": "llama_cpp", "stage": stage, "signature": signature, "reason": "known"}
    bench.expected = [entry]


@arranged
def test_a_declared_upstream_difference_accounts_for_symptoms_under_its_tags_only(
    bench: Bench,
) -> Halves:
    wrong = {"prompt_ids": [1, 1, 9], "output_ids": [9], "text": "other"}
    bench.cells = [Cell("c1:inside"), Cell("c1:outside")]
    for cell in bench.cells:
        cell.only.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
        cell.only.change("chain", "chain/nfd", "whole", **wrong)
    bench.cells[1].only.change("chain", "chain/plain", "whole", **wrong)
    declared(bench, "tokenize", "tokenize/nfd")
    found = yield
    assert found.verdict("chain", "c1:inside") == "expected"
    assert found.cell("c1:inside")["verdict"] == "qualified"
    assert found.cell("c1:outside")["culprit"] == "interface"


@arranged
def test_a_declared_parser_difference_accounts_for_what_there_is_to_parse(
    bench: Bench,
) -> Halves:
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
    declared(bench, "parse", "parse/call")
    found = yield
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
