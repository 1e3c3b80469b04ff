"""vLLM's parser deepseek_v3 looks for reasoning only if the request asks for it, and cuts plainly.

Reasoning that the model opens by itself stays in the content. Where the request opens it, the line
breaks around it are kept on both sides of the closing tag.
"""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.hermes import hermes_message

_CLOSE = "</think>"


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the message as the parser cuts it, where the right one has reasoning."""
    case, right = asked.case, asked.right_message
    if case is None or right is None or not right["reasoning_content"]:
        return
    if asked.options.get("reasoning_parser") != "deepseek_v3" or asked.script_ids is None:
        return
    text, reasoning = asked.texts.visible(asked.script_ids), ""
    if case.template_options.get("enable_thinking"):
        if _CLOSE not in text:
            return
        reasoning, _, text = text.partition(_CLOSE)
    with_calls = "<tool_call>" in text
    if with_calls and asked.options.get("tool_call_parser") != "hermes":
        return
    message = hermes_message(text)
    if message is None:
        return
    finish_reason = "tool_calls" if with_calls else asked.golden.finish_reason or "stop"
    # Without streaming, content of nothing but line breaks before a call is left out.
    blank = with_calls and not message["content"].strip()
    for content in (message["content"], "") if blank else (message["content"],):
        answer = {**message, "content": content, "reasoning_content": reasoning}
        given = asked.parsed(answer, finish_reason)
        if given["message"] != right:
            yield given


RULE = Rule(("parse",), outputs)
