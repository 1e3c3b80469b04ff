"""The library parses calls, but gives no finish reason for them: it only says that it stopped."""

from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the right message with the finish reason of an answer without calls."""
    right = asked.right_message
    if right is not None and asked.golden.finish_reason == "tool_calls":
        yield {"message": right, "finish_reason": "stop"}


RULE = Rule(("parse",), outputs)
