"""What each rule says an engine gives, on the shipped model."""

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.matrix.expected_rules.asked import Asked
from cluster.matrix.expected_rules.model_texts import ModelTexts
from cluster.matrix.expected_rules.registry import RULES
from suites.suite import Case, Golden
from tests.paths import TINY_CHAT

ASSISTANT = "<|role|>assistant<|body|>\n\n"
CALL = {"name": "x", "arguments": "{}"}
PARSERS = {"reasoning_parser": "deepseek_v3", "tool_call_parser": "hermes"}


@pytest.fixture(scope="module")
def texts() -> Iterator[ModelTexts]:
    found = ModelTexts(TINY_CHAT)
    yield found
    found.close()


def scripted(stage: str, text: str, **more: Any) -> dict[str, Any]:
    """Return a case that forces a text, then the end token."""
    return {"stage": stage, "script": {"text": text, "eos": 1}, **more}


def answered(message: dict[str, Any], finish_reason: str = "stop") -> dict[str, Any]:
    return {"golden": {"message": message, "finish_reason": finish_reason}}


def parsed(content: str, reasoning: str, calls: list[Any], finish_reason: str) -> dict[str, Any]:
    message = {"content": content, "reasoning_content": reasoning, "tool_calls": calls}
    return {"message": message, "finish_reason": finish_reason}


RIVER = scripted("stop", "The river", stop=["iv"])
THOUGHT = {"content": "31", "reasoning_content": "8 + 23"}
OPENED = {"template_options": {"enable_thinking": True}}
HELLO = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("rule", "case", "outputs"),
    [
        ("stop_string_kept", RIVER, [{"text": "The river", "finish_reason": "stop"}]),
        ("stop_string_kept", scripted("stop", "The river"), []),
        ("stop_string_kept", scripted("stop", "The river", stop=["sea"]), []),
        (
            "calls_without_reason",
            scripted("parse", "x", **answered({"tool_calls": [CALL]}, "tool_calls")),
            [parsed("", "", [CALL], "stop")],
        ),
        ("calls_without_reason", scripted("parse", "x", **answered({"content": "x"})), []),
        (
            "reasoning_in_content",
            scripted("parse", "<think>\n8 + 23\n</think>\n\n31", **answered(THOUGHT)),
            [parsed("<think>\n8 + 23\n</think>\n\n31", "", [], "stop")] * 2,
        ),
        (
            "thinking_opened",
            {"stage": "template", "messages": HELLO},
            [f"<|bos|><|role|>user<|body|>\n\nHi<|turn_end|>{ASSISTANT}<think>\n"],
        ),
        ("thinking_opened", {"stage": "template", "messages": HELLO, **OPENED}, []),
        ("bos_not_doubled", {"stage": "tokenize", "text": "Hi"}, []),
        ("bos_not_doubled", {"stage": "tokenize", "text": "<|bos|>"}, [[1527]]),
        (
            "leading_space_dropped",
            scripted("detokenize", "  a", golden={"text": "  a"}),
            [" a"],
        ),
        ("leading_space_dropped", scripted("detokenize", "a b", golden={"text": "a b"}), []),
        (
            "control_tokens_kept",
            scripted("detokenize", "a<|role|>b", golden={"text": "ab"}),
            ["a<|role|>b"],
        ),
        ("control_tokens_kept", scripted("detokenize", "ab", golden={"text": "ab"}), []),
        (
            "replacement_held_back",
            scripted("detokenize", "a\ufffd b\ufffd", golden={"text": "a\ufffd b\ufffd"}),
            ["a\ufffd b"],
        ),
        (
            "messages_rewritten",
            {"stage": "template", "messages": [{**HELLO[0], "role": "developer"}]},
            [f"<|bos|><|role|>system<|body|>\n\nHi<|turn_end|>{ASSISTANT}"],
        ),
        (
            "deepseek_reasoning",
            scripted("parse", "8 + 23\n</think>\n\n31", **OPENED, **answered(THOUGHT)),
            [parsed("\n\n31", "8 + 23\n", [], "stop")],
        ),
        ("deepseek_reasoning", scripted("parse", "31", **answered({"content": "31"})), []),
        (
            "sampler_order",
            {
                "stage": "sampling",
                "text": "The",
                "measure": "draws",
                "asked": {"temperature": 2, "top_p": 0.9},
            },
            [{"temperature": 2.0, "top_p": 0.9, "order": ["top_p", "temperature"]}],
        ),
        (
            "sampler_order",
            {
                "stage": "sampling",
                "text": "The",
                "measure": "draws",
                "asked": {"temperature": 2, "top_p": 1},
            },
            [],
        ),
    ],
)
def test_a_rule_says_what_the_engine_gives_where_it_differs(
    rule: str, case: dict[str, Any], outputs: list[Any], texts: ModelTexts
) -> None:
    asked = Case.model_validate({"id": "a", **case})
    assert asked.stage in RULES[rule].stages
    found = RULES[rule].outputs(
        Asked(
            case=asked,
            fact="",
            golden=asked.golden,
            texts=texts,
            serving="in_process",
            options=PARSERS,
            values={"order": ["top_p", "temperature"]} if rule == "sampler_order" else {},
            frozen=lambda stage, probe: [],
        )
    )
    assert list(found) == outputs


def test_end_tokens_that_are_only_named_so_are_a_fact_of_the_configuration(
    texts: ModelTexts,
) -> None:
    asked = Asked(None, "eos_ids", Golden(), texts, "in_process", {}, {}, lambda stage, probe: [])
    assert list(RULES["eog_by_name"].outputs(asked)) == [], "this model names its tokens otherwise"
