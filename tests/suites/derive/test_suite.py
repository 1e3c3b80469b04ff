"""A suite is derived from a model's files: every stage, nothing by hand, the same each time."""

from collections import Counter
from pathlib import Path

import pytest

from suites.derive import derive_suite
from suites.model_files import ModelFiles, texts_digest
from suites.stages import CASELESS, STAGES
from suites.suite import Suite
from tests.suites.derive.conftest import CHATML, TINY_CHAT, ModelMaker


def test_every_stage_of_the_shipped_model_has_cases(derived: Suite) -> None:
    assert len(derived.cases) >= 100
    asked = {case.stage for case in derived.cases}
    assert asked == {*STAGES, "chain"} - CASELESS
    assert derived.requires == STAGES
    assert derived.unasked == {}


def test_the_same_files_give_the_same_suite(derived: Suite) -> None:
    again = derive_suite(TINY_CHAT, name="derived")
    assert again == derived
    assert again.digest == derived.digest


def test_the_golden_answers_are_those_that_the_golden_program_computes(derived: Suite) -> None:
    truth = ModelFiles(TINY_CHAT)
    checked = 0
    for case in derived.cases:
        golden = case.golden.model_dump(mode="json")
        for name, value in truth.answers(case).items():
            assert golden[name] == value, case.id
            checked += 1
    assert checked > 150


def test_golden_answers_hold_for_the_texts_and_for_no_others(
    derived: Suite, model: ModelMaker
) -> None:
    same = model((TINY_CHAT / "chat_template.jinja").read_text(), config={"rope_theta": 7.0})
    assert derived.golden_for == texts_digest(same)
    assert derived.golden_for != texts_digest(model(CHATML))
    other_end = model(None, generation_config={"eos_token_id": [1531]})
    assert derived.golden_for != texts_digest(other_end)


def test_a_template_without_calls_has_no_case_of_parse_and_says_why(model: ModelMaker) -> None:
    suite = derive_suite(model(CHATML), name="chatml")
    assert len(suite.cases) >= 100
    assert suite.unasked == {
        "parse": "the call format is not known: the template prints no tool calls"
    }
    assert "parse" not in suite.requires
    assert "the template ignores tool definitions" in suite.notes


def test_a_model_without_a_template_still_has_texts_and_numbers(model: ModelMaker) -> None:
    suite = derive_suite(model(None), name="base")
    stages = Counter(case.stage for case in suite.cases)
    assert stages["tokenize"] > 40
    assert stages["logits"] > 5
    assert stages["stop"] > 5
    assert suite.unasked["template"] == "the model has no chat template"
    assert not {"template", "state", "chain", "parse"} & set(stages)


def test_lengths_end_with_the_context_that_is_served() -> None:
    short = derive_suite(TINY_CHAT, name="short", context_length=300)
    lengths = [case.id for case in short.cases if case.id.startswith("logits/length")]
    assert lengths == ["logits/length-64", "logits/length-160"]


def test_prompts_are_as_long_as_their_names_say(derived: Suite) -> None:
    truth = ModelFiles(TINY_CHAT)
    for case in derived.cases:
        if case.id.startswith("logits/length") and case.messages:
            asked = int(case.id.rsplit("-", 1)[1])
            found = len(truth.encode(truth.render(case.messages), add_special=False))
            assert asked - 40 < found <= asked


def test_few_positions_are_computed(derived: Suite) -> None:
    truth, positions = ModelFiles(TINY_CHAT), 0
    for case in derived.cases:
        if case.stage == "logits" and case.messages is not None:
            prompt = truth.render(case.messages, case.tools, case.template_options)
            positions += len(truth.encode(prompt, add_special=False)) + case.max_tokens
    assert 1000 < positions < 2500


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_damaged_file_is_one_message(model: ModelMaker, name: str) -> None:
    folder = model(CHATML)
    Path(folder / name).write_text("{")
    with pytest.raises(Exception, match="not readable as JSON") as raised:
        derive_suite(folder, name="damaged")
    assert name in str(raised.value)
