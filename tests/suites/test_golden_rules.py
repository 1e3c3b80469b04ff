"""In every suite of the shipped model: golden answers follow from the rules, and questions fit."""

import json
import unicodedata
from pathlib import Path

import pytest

from suites.golden import main, stale
from suites.loading import SHIPPED, load_suite
from suites.model_files import ModelFiles
from suites.suite import Case, Suite
from tests.suites.asked import CONTEXT, of_stage, prompt_ids

ENDS = {1528, 1531}
#: Suite → the stages that it has cases for.
ASKED = {
    "smoke": {"template", "tokenize", "logits", "stop", "detokenize", "parse", "chain"},
    "conformance": {"template", "tokenize", "stop", "detokenize", "parse"},
    "tools": {"template", "tokenize", "stop", "detokenize", "parse", "chain"},
    "variance": {"logits", "chain"},
}


def asking(*stages: str, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test once per suite that has cases of one of these stages."""
    names = [name for name, asked in ASKED.items() if asked & set(stages) and name not in but]
    return pytest.mark.parametrize("suite", names, indirect=True)


@pytest.fixture(scope="module", params=ASKED)
def suite(request: pytest.FixtureRequest) -> Suite:
    return load_suite(request.param, Path())


@pytest.fixture
def suite_file(suite: Suite) -> Path:
    return SHIPPED / f"{suite.name}.yaml"


def test_ids_and_questions_are_unique_and_ids_begin_with_the_stage(suite: Suite) -> None:
    assert len({case.id for case in suite.cases}) == len(suite.cases)
    assert len({case.digest for case in suite.cases}) == len(suite.cases)
    assert all(case.id.startswith(f"{case.stage}/") for case in suite.cases)
    assert {case.stage for case in suite.cases} == ASKED[suite.name]


def test_every_case_belongs_to_a_group(suite: Suite) -> None:
    assert [case.id for case in suite.cases if not case.tags] == []


def test_every_stage_that_is_required_is_asked(suite: Suite) -> None:
    asked = {case.stage for case in suite.cases} | {"instrument", "config", "weights"}
    assert set(suite.requires) <= asked


def test_computed_golden_fields_are_what_the_models_files_say(
    suite_file: Path, truth: ModelFiles
) -> None:
    assert stale(suite_file, truth) == []
    assert main([str(suite_file), "--check"]) == 0


def test_prompt_and_answer_fit_the_context(suite: Suite, truth: ModelFiles) -> None:
    for case in of_stage(suite, "logits", "chain", "stop", "detokenize", "parse"):
        opened = len(prompt_ids(case, truth)) if case.messages or case.text else 0
        assert opened + case.max_tokens <= CONTEXT, case.id


@asking("stop", "detokenize", "parse")
def test_only_what_is_to_be_cut_short_is_longer_than_its_limit(suite: Suite) -> None:
    for case in of_stage(suite, "stop", "detokenize", "parse"):
        forced = len(case.golden.script_ids or ())
        assert forced <= case.max_tokens or "limit" in case.tags, case.id


def test_invisible_and_decomposed_characters_are_written_as_escapes(suite_file: Path) -> None:
    source = suite_file.read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", source)
    hidden = {c for c in source if c != "\n" and (not c.isprintable() or c == "\ufe0f")}
    assert hidden == set()


@asking("tokenize")
def test_texts_that_normalisation_changes_are_tagged_nfd(suite: Suite) -> None:
    for case in of_stage(suite, "tokenize"):
        text = case.text if case.text is not None else case.golden.prompt_text
        assert text is not None
        pieces = text.replace("<think>", "\0").split("\0")
        composed = all(unicodedata.is_normalized("NFC", piece) for piece in pieces)
        assert composed == ("nfd" not in case.tags), case.id


def generated(case: Case, truth: ModelFiles) -> tuple[str, str]:
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


@asking("stop", "detokenize")
def test_golden_texts_follow_from_the_scripts(suite: Suite, truth: ModelFiles) -> None:
    for case in of_stage(suite, "stop", "detokenize"):
        text, finish_reason = generated(case, truth)
        assert case.golden.text == text, case.id
        assert case.golden.finish_reason in (finish_reason, None), case.id


@asking("stop")
def test_what_follows_an_eos_is_in_no_golden_text(suite: Suite) -> None:
    scripts = [(case, case.script) for case in of_stage(suite, "stop") if case.script]
    followed = [(case, script) for case, script in scripts if script.eos is not None]
    followed = [(case, script) for case, script in followed if script.after]
    assert followed
    for case, script in followed:
        assert script.after.strip() not in (case.golden.text or ""), case.id


@asking("parse")
def test_golden_messages_are_those_which_the_template_renders_as_their_scripts(
    suite: Suite, truth: ModelFiles
) -> None:
    """Parsing undoes the template; not so for JSON in another form and for what was cut short."""
    for case in of_stage(suite, "parse"):
        assert case.script is not None
        assert case.messages is not None
        if {"limit", "dialect"} & set(case.tags):
            continue
        answer = {"role": "assistant", **(case.golden.message or {})}
        opened = truth.render(case.messages, case.tools, case.template_options)
        closed = truth.render([*case.messages, answer], case.tools, open_turn=False)
        prompt = opened.removesuffix("<think>\n")
        script = opened.removeprefix(prompt) + case.script.text
        assert closed == prompt + script + "<|turn_end|>", case.id


@asking("parse", but=("tools",))
def test_what_was_cut_short_is_in_the_message_as_text(suite: Suite, truth: ModelFiles) -> None:
    cut = [case for case in of_stage(suite, "parse") if "limit" in case.tags]
    assert cut
    for case in cut:
        message = case.golden.message or {}
        assert message["tool_calls"] == [], case.id
        assert case.golden.finish_reason == "length", case.id
        said = generated(case, truth)[0].removeprefix("<think>\n")
        assert message["content"] + message["reasoning_content"] == said, case.id


@asking("parse")
def test_golden_arguments_are_json_in_the_usual_form_with_their_keys_in_order(
    suite: Suite,
) -> None:
    messages = [(case.id, case.golden.message or {}) for case in of_stage(suite, "parse")]
    calls = [(case_id, call) for case_id, message in messages for call in message["tool_calls"]]
    assert calls
    for case_id, call in calls:
        arguments = json.loads(call["arguments"])
        assert json.dumps(arguments, ensure_ascii=False) == call["arguments"], case_id


@asking("parse")
def test_messages_with_calls_finish_with_calls(suite: Suite) -> None:
    for case in of_stage(suite, "parse"):
        called = bool((case.golden.message or {})["tool_calls"])
        assert called == (case.golden.finish_reason == "tool_calls"), case.id


def test_a_suite_is_named_as_its_file(suite: Suite, suite_file: Path) -> None:
    assert suite_file.is_file()
    assert suite.description
