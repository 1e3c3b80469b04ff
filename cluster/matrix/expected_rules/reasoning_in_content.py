"""An engine without a parser for the model's reasoning leaves it in the content."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.raw_answers import raw_parse


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the raw answer where the right one reasons and makes no calls."""
    right = asked.right_message
    if right is not None and right["reasoning_content"] and not right["tool_calls"]:
        yield from raw_parse(asked)


RULE = Rule(("parse",), outputs)
