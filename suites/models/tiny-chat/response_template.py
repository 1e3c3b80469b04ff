r"""How an answer is taken apart again, in the words of transformers' ``parse_response``.

It undoes chat_template.jinja. Only a turn that begins with ``<think>`` has reasoning (``\A``; a
prompt that opened it counts). A call is one only if it is closed: its opening tag looks ahead for
the end, so half a call stays text. Its closing tag is one only behind a brace and before the next
call or the end of the turn, so that arguments may hold the tag in a string. The newlines that the
template writes around a part belong to the part's delimiters; all other whitespace is content.
"""

from __future__ import annotations

from typing import Any, Final

from conversation import BODY, DOCUMENT_END, ROLE, TURN_END

RESPONSE_TEMPLATE: Final[dict[str, Any]] = {
    "version": 1,
    "defaults": {"role": "assistant"},
    "start_anchor": f"{ROLE}assistant{BODY}\n\n",
    "fields": {
        "reasoning_content": {
            "open_pattern": r"\A<think>\n?",
            "close_pattern": r"\n?</think>(?:\n\n)?",
            "content": "text",
            "content_args": {"strip": False},
        },
        "tool_calls": {
            "open_pattern": r"\n?<tool_call>(?=\s*\{.*?\}\s*</tool_call>)",
            "close_pattern": r"(?<=\}\s*)</tool_call>"
            r"(?=\n<tool_call>|<\|turn_end\|>|<\|document_end\|>|\Z)",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {
            "close": [TURN_END, DOCUMENT_END],
            "content": "text",
            "content_args": {"strip": False},
        },
    },
}
