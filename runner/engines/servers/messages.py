"""Messages in the form that OpenAI's API defines, which strict servers insist on.

Cases state calls as templates take them: arguments as objects, and no ids. A client sends arguments
as JSON text, an id with each call, and that id with its result.
"""

import json
from collections.abc import Sequence
from typing import Any

from runner.engines.base import Message


def openai_messages(messages: Sequence[Message]) -> list[Message]:
    """Return the messages as a client sends them; those already in that form do not change."""
    found: list[Message] = []
    waiting: list[str] = []
    for message in messages:
        sent = dict(message)
        if calls := sent.get("tool_calls"):
            sent["tool_calls"] = [
                _call(call, f"call_{len(found)}_{place}") for place, call in enumerate(calls)
            ]
            waiting = [call["id"] for call in sent["tool_calls"]]
        if sent.get("role") == "tool" and "tool_call_id" not in sent:
            sent["tool_call_id"] = waiting.pop(0) if waiting else f"call_{len(found)}"
        found.append(sent)
    return found


def _call(call: dict[str, Any], name: str) -> dict[str, Any]:
    function = dict(call.get("function") or {k: v for k, v in call.items() if k != "id"})
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        function["arguments"] = json.dumps(arguments or {}, ensure_ascii=False)
    return {"type": "function", **call, "id": call.get("id") or name, "function": function}
