"""What vLLM's parser hermes makes of a whole text with complete calls."""

import json
import re
from typing import Any

_OPEN = "<tool_call>"
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def hermes_message(text: str) -> dict[str, Any] | None:
    """Return content and calls of a text; None where a call is not complete JSON.

    The content is all that stands before the first call, the line break between them included.
    """
    if _OPEN not in text:
        return {"content": text, "tool_calls": []}
    try:
        calls = [json.loads(found) for found in _CALL.findall(text)]
        named = [{"name": c["name"], "arguments": c["arguments"]} for c in calls]
    except (ValueError, TypeError, KeyError):
        return None
    return {"content": text.partition(_OPEN)[0], "tool_calls": named}
