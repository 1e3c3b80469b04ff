"""The derived cases say what is true of any correct engine, and what is special to the model."""

import json
import unicodedata

from suites.derive import derive_suite
from suites.model_files import ModelFiles
from suites.suite import Case, Suite
from tests.suites.derive.conftest import CHATML, TINY_CHAT, ModelMaker


def _of(suite: Suite, stage: str) -> dict[str, Case]:
    return {case.id: case for case in suite.cases if case.stage == stage}


def test_every_added_token_is_asked_in_a_text(derived: Suite) -> None:
    added = json.loads((TINY_CHAT / "tokenizer.json").read_text())["added_tokens"]
    texts = "".join(case.text or "" for case in derived.cases if "specials" in case.tags)
    assert all(token["content"] in texts for token in added)


def test_exactly_the_texts_that_the_normaliser_composes_are_marked(derived: Suite) -> None:
    asked = _of(derived, "tokenize").values()
    texts = {case.id: case.text or case.golden.prompt_text or "" for case in asked}
    marked = {case.id for case in asked if "nfd" in case.tags}
    assert marked == {i for i, t in texts.items() if unicodedata.normalize("NFC", t) != t}
    assert len(marked) >= 6


def test_without_a_normaliser_no_text_is_marked(model: ModelMaker) -> None:
    suite = derive_suite(model(CHATML, tokenizer={"normalizer": None}), name="plain")
    assert not any("nfd" in case.tags for case in suite.cases)


def test_a_switch_of_the_template_is_found(derived: Suite) -> None:
    on = _of(derived, "template")["template/enable-thinking-on"]
    assert on.template_options == {"enable_thinking": True}
    assert str(on.golden.prompt_text).endswith("<think>\n")


def test_answers_end_at_the_eos_set_and_nowhere_else(derived: Suite) -> None:
    stops = _of(derived, "stop")
    truth = ModelFiles(TINY_CHAT)
    ends = [c for c in stops.values() if c.id.startswith("stop/end-") and c.id[9:].isdigit()]
    assert [c.golden.script_ids[4] for c in ends if c.golden.script_ids] != []
    assert {c.script.eos for c in ends if c.script} == {0, 1}
    for case in stops.values():
        if "not-an-end" in case.tags:
            ids = set(case.golden.script_ids or ())
            assert len(ids & set(truth.ends)) == 1
            assert case.golden.text == "Onetwo."


def test_stop_strings_never_stay_in_the_users_text(derived: Suite) -> None:
    asked = [c for c in _of(derived, "stop").values() if c.stop]
    assert len(asked) > 7
    for case in asked:
        script, text = case.script, case.golden.text
        assert script is not None
        assert text is not None
        assert script.text.startswith(text)
        assert not any(string in text for string in case.stop)
        rest = script.text[len(text) :]
        assert not rest or any(rest.startswith(string) for string in case.stop)


def test_parsed_messages_are_what_the_template_prints_as_the_script(derived: Suite) -> None:
    truth = ModelFiles(TINY_CHAT)
    parsed = _of(derived, "parse")
    assert {"parse/two-calls", "parse/reasoning", "parse/reasoning-then-call"} <= set(parsed)
    for case in parsed.values():
        message, script = case.golden.message, case.script
        assert message is not None
        assert script is not None
        calls = [
            {"function": {**call, "arguments": json.loads(call["arguments"])}}
            for call in message["tool_calls"]
        ]
        answer = {"role": "assistant", **message, "tool_calls": calls}
        history = truth.render([*(case.messages or ()), answer], case.tools, open_turn=False)
        assert history.endswith(script.text + "<|turn_end|>"), case.id


def test_scripts_are_short(derived: Suite) -> None:
    lengths = [len(c.golden.script_ids) for c in derived.cases if c.golden.script_ids]
    assert max(lengths) < 130
    assert sum(lengths) < 2500
