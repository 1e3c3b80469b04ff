"""An engine without a parser for the model's calls returns them as raw text."""

import json
from collections.abc import Iterator
from typing import Any

from cluster.matrix.expected_rules.asked import Asked, Rule
from cluster.matrix.expected_rules.raw_answers import raw_chain, raw_parse


def outputs(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the raw answer where the right one makes calls."""
    if asked.case is None:
        return
    if asked.case.stage == "chain":
        for trace in asked.frozen("chain", "whole"):
            if json.loads(trace["message"] or "{}").get("tool_calls"):
                yield raw_chain(trace["text"])
        return
    right = asked.right_message
    if right is not None and right["tool_calls"]:
        yield from raw_parse(asked)


RULE = Rule(("parse", "chain"), outputs)
