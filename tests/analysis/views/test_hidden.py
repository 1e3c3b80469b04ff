"""Cells of servers that hide stages: what their answers and counts tell, and where it is placed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.handmade import REQUIRED, Attempt, Bench
from tests.analysis.handmade_server import count, say, served, sure, true_text

PROMPT = "template/tokenize"
GENERATION = "config/weights/logits/state/sampling"
ANSWER = "stop/detokenize/parse"


@arranged
def test_a_server_that_agrees_everywhere_is_qualified_only_for_what_is_required_of_it(
    bench: Bench,
) -> Halves:
    bench.cells = [served("narrow"), served("wide", required=tuple(REQUIRED))]
    found = yield
    narrow, wide = found.cell("c1:narrow"), found.cell("c1:wide")
    assert narrow["verdict"] == "qualified"
    assert wide["verdict"] == "inconclusive"
    assert narrow["observed_stages"] == wide["observed_stages"] == "0 of 11"
    assert wide["explanation"].count("hidden") == 1
    assert f"{', '.join(REQUIRED)}: hidden: it does not show it" in wide["explanation"]


def other_prompt(attempt: Attempt) -> None:
    count(attempt, "chain/plain", prompt=3)


def other_words(attempt: Attempt) -> None:
    say(attempt, "chain/plain", "nothing of the kind")


def other_words_uncounted(attempt: Attempt) -> None:
    other_words(attempt)
    count(attempt, "chain/plain", prompt=None, output=None)


def cut(attempt: Attempt) -> None:
    say(attempt, "chain/plain", "answer to")


def longer(attempt: Attempt) -> None:
    say(attempt, "chain/plain", true_text("chain/plain") + " and more")


def other_spaces(attempt: Attempt) -> None:
    say(attempt, "chain/plain", "answerĠtoĠchain/plain")


def other_end(attempt: Attempt) -> None:
    attempt.change("chain", "chain/plain", "whole", finish_reason="length")


def other_message(attempt: Attempt) -> None:
    text = true_text("chain/plain")
    body = json.dumps({"content": text, "reasoning_content": "so", "tool_calls": []})
    attempt.change("chain", "chain/plain", "whole", message=body)


def other_stream(attempt: Attempt) -> None:
    attempt.change("chain", "chain/plain", "stream", text="answer to \ufffd")


def other_streamed_calls(attempt: Attempt) -> None:
    calls = [{"name": "f", "arguments": "{}"}]
    body = json.dumps({"content": true_text("chain/plain"), "tool_calls": calls})
    attempt.change("chain", "chain/plain", "stream", message=body)


def other_streamed_end(attempt: Attempt) -> None:
    attempt.change("chain", "chain/plain", "stream", finish_reason="length")


def other_count(attempt: Attempt) -> None:
    count(attempt, "chain/plain", output=9)


@arranged
@pytest.mark.parametrize(
    ("change", "culprit", "says"),
    [
        (other_prompt, PROMPT, "the prompt has 3 tokens, the reference's has 2"),
        (other_words, GENERATION, "the words differ"),
        (
            other_words_uncounted,
            "config/weights/template/tokenize/logits/state/sampling",
            "the words differ",
        ),
        (cut, ANSWER, "one text is a part of the other"),
        (longer, ANSWER, "one text is a part of the other"),
        (other_spaces, f"{GENERATION}/{ANSWER}", "the same words in another form"),
        (other_end, "stop/parse", "finish_reason is length, expected stop"),
        (other_message, "parse", "same text, different message"),
        (other_stream, ANSWER, "the streamed text differs"),
        (other_streamed_calls, "parse", "the streamed message differs"),
        (
            other_streamed_end,
            "stop/parse",
            "the stream's finish_reason is length",
        ),
        (other_count, ANSWER, "the answer is the same, but it has 9 tokens, expected 4"),
    ],
)
def test_a_symptom_is_placed_among_the_hidden_stages_that_could_have_made_it(
    bench: Bench, change: Callable[[Attempt], None], culprit: str, says: str
) -> Halves:
    sure(bench)
    bench.cells = [served("one")]
    change(bench.attempt)
    cell = (yield).cell("c1:one")
    assert (cell["verdict"], cell["culprit"]) == ("divergent", culprit)
    assert cell["culprits"] == culprit.replace("/", ", ")
    assert cell["confirmed"] == "not_applicable"
    assert says in cell["explanation"]
    assert "; the server hides th" in cell["explanation"]
    assert "cannot be confirmed" in cell["explanation"]


@arranged
@pytest.mark.parametrize(
    "counts",
    [{"prompt": None, "output": None}, {"output": 3}, {"output": 5}, {"prompt": 0, "output": 0}],
)
def test_counts_that_are_not_told_or_differ_by_the_last_token_say_nothing(
    bench: Bench, counts: dict[str, Any]
) -> Halves:
    bench.cells = [served("one")]
    count(bench.attempt, "chain/plain", **counts)
    assert (yield).cell("c1:one")["verdict"] == "qualified"


@arranged
def test_an_answer_without_ids_that_tells_no_count_in_their_place_is_no_match(
    bench: Bench,
) -> Halves:
    bench.cells = [served("one")]
    bench.attempt.change("chain", "chain/plain", "whole", value=None)
    row = (yield).stage("chain", cell="c1:one")
    assert row["verdict"] == "inconclusive"
    assert "chain/plain: the probe returned nothing" in row["reason"]


@arranged
def test_a_prompt_of_other_length_is_told_where_only_its_own_ids_are_hidden(bench: Bench) -> Halves:
    bench.attempt.change("chain", "chain/plain", "whole", prompt_ids=None)
    bench.attempt.change("chain", "chain/plain", "whole", value=json.dumps({"prompt_tokens": 3}))
    cell = (yield).cell()
    assert (cell["verdict"], cell["culprit"]) == ("divergent", "interface")
    assert "the prompt has 3 tokens, the reference's has 2" in cell["explanation"]


@arranged
def test_what_is_seen_and_agrees_is_taken_out_of_the_set(bench: Bench) -> Halves:
    names = {"one": ("tokenize",), "none": ("template", "tokenize"), "reenacted": ("tokenize",)}
    bench.cells = [served(name, *shown) for name, shown in names.items()]
    for cell in bench.cells:
        other_prompt(cell.only)
    for case in ("tokenize/ascii", "tokenize/nfd"):
        bench.cells[2].only.change("tokenize", case, observed="reenacted")
    found = yield
    culprits = {name: found.cell(f"c1:{name}")["culprit"] for name in names}
    assert culprits == {"one": "template", "none": "interface", "reenacted": PROMPT}
    says = "the server hides this stage, and every other stage that could cause it agrees"
    assert says in found.cell("c1:one")["explanation"]


@arranged
def test_qualified_logits_clear_the_tensors_behind_them(bench: Bench) -> Halves:
    sure(bench)
    bench.cells = [served("one", "instrument", "logits")]
    bench.attempt.compute_dtype = "f32"
    other_words(bench.attempt)
    assert (yield).cell("c1:one")["culprit"] == "state/sampling"


@arranged
def test_of_several_sets_the_earliest_is_the_culprit_and_all_are_listed(bench: Bench) -> Halves:
    sure(bench)
    bench.cells = [served("both"), served("after", "tokenize")]
    for cell in bench.cells:
        say(cell.only, "chain/nfd", "answer to")
    count(bench.cells[0].only, "chain/plain", prompt=3)
    bench.cells[1].only.change("tokenize", "tokenize/ascii", prompt_ids=[1, 9])
    found = yield
    both, after = found.cell("c1:both"), found.cell("c1:after")
    assert both["culprit"] == PROMPT
    assert both["culprits"] == "template, tokenize, stop, detokenize, parse"
    assert after["culprit"] == "tokenize"
    assert after["culprits"] == "tokenize, stop, detokenize, parse"


@arranged
def test_an_isolate_that_is_seen_to_differ_accounts_for_what_it_can_make(bench: Bench) -> Halves:
    bench.cells = [served("one", "tokenize")]
    bench.attempt.change("tokenize", "tokenize/ascii", prompt_ids=[1, 9])
    other_prompt(bench.attempt)
    found = yield
    assert found.cell("c1:one")["culprits"] == "tokenize"
    assert "explained by tokenize" in found.stage("chain", cell="c1:one")["reason"]


# Ties


@arranged
@pytest.mark.parametrize("change", [other_words, cut, other_spaces])
def test_other_text_is_no_truth_where_the_reference_was_undecided_on_the_way(
    bench: Bench, change: Callable[[Attempt], None]
) -> Halves:
    sure(bench, but=1)
    bench.cells = [served("one")]
    change(bench.attempt)
    found = yield
    cell, row = found.cell("c1:one"), found.stage("chain", cell="c1:one")
    assert (cell["verdict"], cell["culprit"]) == ("inconclusive", None)
    assert "by only 0.1 nats" in row["reason"]
    assert "this may be a tie (ties reach 0.5)" in row["reason"]


@arranged
def test_only_tokens_up_to_the_first_other_character_can_be_tied(bench: Bench) -> Halves:
    """Three bytes are spelt by three tokens at most, and the fourth may be the other one."""
    sure(bench, but=4)
    bench.cells = [served("early"), served("late")]
    say(bench.cells[0].only, "chain/plain", "anything else")
    say(bench.cells[1].only, "chain/plain", "ansatz is another")
    found = yield
    assert found.cell("c1:early")["verdict"] == "divergent"
    assert found.cell("c1:late")["verdict"] == "inconclusive"


@arranged
def test_no_numbers_of_the_reference_tell_nothing_about_ties(bench: Bench) -> Halves:
    sure(bench)
    bench.answers["chain/plain"] = {"ref_topk_logprobs": None}
    bench.cells = [served("one")]
    other_words(bench.attempt)
    row = (yield).stage("chain", cell="c1:one")
    assert row["verdict"] == "inconclusive"
    assert "the reference's lead is not known" in row["reason"]


@arranged
def test_a_prompt_of_other_length_is_no_tie_however_undecided_the_reference_is(
    bench: Bench,
) -> Halves:
    sure(bench, but=1)
    bench.cells = [served("one")]
    other_prompt(bench.attempt)
    other_words(bench.attempt)
    assert (yield).cell("c1:one")["culprit"] == PROMPT


# Calls


@arranged
def test_calls_that_are_read_from_the_text_end_an_answer_by_the_api(bench: Bench) -> Halves:
    """The reference has raw text and `stop`; a server has calls, no content and `tool_calls`."""
    call = {"name": "f", "arguments": '{"a": 1}'}
    truth = json.dumps({"content": "", "tool_calls": [call]})
    raw = '<call>{"name": "f", "arguments": {"a": 1}}</call>'
    bench.answers = {"chain/tools": {"text": raw, "message": truth}}
    sure(bench)
    bench.cells = [served("same"), served("other"), served("raw")]
    same, other, unread = (cell.only for cell in bench.cells)
    say(same, "chain/tools", "", tool_calls=[call])
    say(other, "chain/tools", "", tool_calls=[{**call, "arguments": '{"a": 2}'}])
    say(unread, "chain/tools", raw)
    for attempt in (same, other):
        attempt.change("chain", "chain/tools", "whole", finish_reason="tool_calls")
    found = yield
    assert found.cell("c1:same")["verdict"] == "qualified"
    assert found.cell("c1:other")["culprit"] == f"{GENERATION}/{ANSWER}"
    assert found.cell("c1:raw")["culprit"] == "parse"


# Failures


@arranged
def test_a_failing_case_is_told_and_hides_no_divergence_of_another(bench: Bench) -> Halves:
    sure(bench)
    bench.cells = [served("failed", required=("stop",)), served("differs"), served("all")]
    for cell in bench.cells:
        cell.only.fail("chain", "chain/nfd", "ServerFailure: HTTP 500: no such role")
    for case in ("chain/plain", "chain/tools"):
        bench.cells[2].only.fail("chain", case, "ServerFailure: HTTP 500: no such role")
    cut(bench.cells[1].only)
    found = yield
    verdicts = {name: found.cell(f"c1:{name}")["verdict"] for name in ("failed", "differs", "all")}
    assert verdicts == {"failed": "inconclusive", "differs": "divergent", "all": "inconclusive"}
    for name in verdicts:
        assert "HTTP 500: no such role" in found.cell(f"c1:{name}")["explanation"]
    assert "1 case of the chain failed" in found.cell("c1:failed")["explanation"]
    assert "chain: 6 of 6 cases not compared" in found.cell("c1:all")["explanation"]


@arranged
def test_a_case_that_a_server_cannot_be_asked_judges_nothing_and_is_named(bench: Bench) -> Halves:
    bench.cells = [served("some"), served("all")]
    cases = (["chain/nfd"], ["chain/plain", "chain/nfd", "chain/tools"])
    for cell, unasked in zip(bench.cells, cases, strict=True):
        for case in unasked:
            cell.only.fail("chain", case, "takes no such option")
            cell.only.change("chain", case, observed="hidden")
    found = yield
    assert found.cell("c1:some")["verdict"] == "qualified"
    assert "chain/nfd" in found.stage("chain", cell="c1:some")["explanation"]
    assert found.verdict("chain", "c1:all") == "not_observed"
    assert found.cell("c1:all")["verdict"] == "inconclusive"
