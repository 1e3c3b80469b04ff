"""The shipped suite asks what it promises, and its hand-written answers follow from their rules."""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from suites.golden import Truth, main, stale
from suites.suite import Case, Suite

#: The least number of cases of each stage.
LEAST = {
    "template": 14,
    "tokenize": 30,
    "logits": 16,
    "stop": 10,
    "detokenize": 8,
    "parse": 10,
    "chain": 8,
}
LOGITS_POSITIONS = 4000
CONTEXT = 1024
ENDS = {1528, 1531}


def of_stage(suite: Suite, stage: str) -> list[Case]:
    return [case for case in suite.cases if case.stage == stage]


def prompt_ids(case: Case, truth: Truth) -> list[int]:
    if case.text is not None:
        return truth.encode(case.text, add_special=True)
    text = truth.render(case.messages or (), case.tools, case.template_options)
    return truth.encode(text, add_special=False)


def test_every_stage_has_enough_cases(smoke: Suite) -> None:
    counts = Counter(str(case.stage) for case in smoke.cases)
    assert set(counts) == set(LEAST)
    assert all(counts[stage] >= least for stage, least in LEAST.items()), counts


def test_ids_and_questions_are_unique_and_ids_begin_with_the_stage(smoke: Suite) -> None:
    assert len({case.id for case in smoke.cases}) == len(smoke.cases)
    assert len({case.digest for case in smoke.cases}) == len(smoke.cases)
    assert all(case.id.startswith(f"{case.stage}/") for case in smoke.cases)


def test_every_case_belongs_to_a_group(smoke: Suite) -> None:
    assert [case.id for case in smoke.cases if not case.tags] == []


def test_computed_golden_fields_are_what_the_models_files_say(
    smoke_file: Path, truth: Truth
) -> None:
    assert stale(smoke_file, truth) == []
    assert main([str(smoke_file), "--check"]) == 0


def test_the_prompts_alone_hold_enough_positions_for_the_logits(smoke: Suite, truth: Truth) -> None:
    lengths = [len(prompt_ids(case, truth)) for case in of_stage(smoke, "logits")]
    assert sum(length - 1 for length in lengths) >= LOGITS_POSITIONS


@pytest.mark.parametrize("stage", ["logits", "chain"])
def test_prompt_and_answer_fit_the_context(smoke: Suite, truth: Truth, stage: str) -> None:
    for case in of_stage(smoke, stage):
        assert len(prompt_ids(case, truth)) + case.max_tokens <= CONTEXT, case.id


def test_a_case_reaches_the_end_of_the_context(smoke: Suite, truth: Truth) -> None:
    assert max(len(prompt_ids(case, truth)) for case in of_stage(smoke, "logits")) > 0.9 * CONTEXT


def test_cases_tagged_nfd_are_just_those_which_normalisation_changes(
    smoke: Suite, truth: Truth
) -> None:
    for case in of_stage(smoke, "tokenize"):
        text = case.text if case.text is not None else case.golden.prompt_text
        assert text is not None
        pieces = text.replace("<think>", "\0").split("\0")
        composed = all(unicodedata.is_normalized("NFC", piece) for piece in pieces)
        assert composed == ("nfd" not in case.tags), case.id


def test_both_members_of_the_eos_set_are_forced(smoke: Suite) -> None:
    ends = {case.script.eos for case in of_stage(smoke, "stop") if case.script}
    assert ends >= {0, 1}


def test_invisible_and_decomposed_characters_are_written_as_escapes(smoke_file: Path) -> None:
    source = smoke_file.read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", source)
    hidden = {c for c in source if c != "\n" and (not c.isprintable() or c == "\ufe0f")}
    assert hidden == set()


def generated(case: Case, truth: Truth) -> tuple[str, str]:
    """Play a script by the rules: it ends at an EOS, the earliest stop string or the limit."""
    ids: list[int] = []
    for token in case.golden.script_ids or ():
        if token in ENDS:
            return truth.visible(ids), "stop"
        ids.append(token)
        text = truth.visible(ids)
        cuts = [text.index(string) for string in case.stop if string in text]
        if cuts:
            return text[: min(cuts)], "stop"
        if len(ids) == case.max_tokens:
            break
    return truth.visible(ids), "length"


@pytest.mark.parametrize("stage", ["stop", "detokenize"])
def test_golden_texts_follow_from_the_scripts(smoke: Suite, truth: Truth, stage: str) -> None:
    for case in of_stage(smoke, stage):
        text, finish_reason = generated(case, truth)
        assert case.golden.text == text, case.id
        assert case.golden.finish_reason in (finish_reason, None), case.id


def test_what_follows_an_eos_is_in_no_golden_text(smoke: Suite) -> None:
    for case in of_stage(smoke, "stop"):
        if case.script and case.script.eos is not None and case.script.after:
            assert case.script.after.strip() not in (case.golden.text or ""), case.id


def test_golden_messages_are_those_which_the_template_renders_as_their_scripts(
    smoke: Suite, truth: Truth
) -> None:
    """Parsing undoes the template; not so for JSON in another form and for what was cut short."""
    for case in of_stage(smoke, "parse"):
        assert case.script is not None
        assert case.messages is not None
        if "limit" in case.tags or case.id == "parse/compact-json":
            continue
        answer = {"role": "assistant", **(case.golden.message or {})}
        opened = truth.render(case.messages, case.tools, case.template_options)
        closed = truth.render([*case.messages, answer], case.tools, open_turn=False)
        prompt = opened.removesuffix("<think>\n")
        script = opened.removeprefix(prompt) + case.script.text
        assert closed == prompt + script + "<|turn_end|>", case.id


def test_golden_arguments_are_json_in_the_usual_form_with_their_keys_in_order(
    smoke: Suite,
) -> None:
    for case in of_stage(smoke, "parse"):
        for call in (case.golden.message or {})["tool_calls"]:
            arguments = json.loads(call["arguments"])
            assert json.dumps(arguments, ensure_ascii=False) == call["arguments"], case.id


def test_messages_with_calls_finish_with_calls(smoke: Suite) -> None:
    for case in of_stage(smoke, "parse"):
        called = bool((case.golden.message or {})["tool_calls"])
        assert called == (case.golden.finish_reason == "tool_calls"), case.id
