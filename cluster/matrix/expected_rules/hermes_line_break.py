"""vLLM's parser hermes leaves the line break between content and call in the content."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.hermes import hermes_message


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the message with the line break, where the right one has content and a call."""
    right, ids = asked.right_message, asked.script_ids
    if right is None or ids is None or asked.options.get("tool_call_parser") != "hermes":
        return
    if not (right["content"] and right["tool_calls"]) or right["reasoning_content"]:
        return
    message = hermes_message(asked.texts.visible(ids))
    if message is not None and message["content"] == right["content"] + "\n":
        yield asked.parsed(message, "tool_calls")


RULE = Rule(("parse",), outputs)
