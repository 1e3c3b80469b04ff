"""One form for assistant messages, so that equal answers are equal bytes."""

import json
from typing import Any


def canonical_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return content, reasoning_content and tool calls; ids and nulls left out.

    Call ids are random in most engines and carry no meaning of their own. Arguments are parsed and
    written again with their key order kept: spacing is no difference, order is. Arguments that are
    no JSON stay as they came.
    """
    return {
        "content": message.get("content") or "",
        "reasoning_content": message.get("reasoning_content") or "",
        "tool_calls": [_call(call) for call in message.get("tool_calls") or []],
    }


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or call
    return {"name": function.get("name"), "arguments": _arguments(function.get("arguments"))}


def _arguments(arguments: Any) -> str:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return str(arguments)
    return json.dumps(arguments, ensure_ascii=False)
