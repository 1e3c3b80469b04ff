"""What two answers tell of each other where no token of one is seen: the same words, or others?

Functions for SQL, and total like those beside it: evidence is untrusted.
"""

import json
import re
from typing import Any

from analysis.sql_functions.differences import parting
from runner.stored.canonical import UNREADABLE

_NO_WORD = re.compile(r"[^0-9A-Za-z]+")


def answer_symptom(seen: str, seen_message: str, true: str, true_message: str) -> str:
    """Return what sets an answer apart whose message is not the truth's.

    Args:
        seen: content of the answer that shows no tokens.
        seen_message: its message, as ``canonical_message`` gives it; empty for none.
        true: all that the truth's tokens spell, before it was parsed.
        true_message: the truth's message likewise.

    Returns:
        ``message`` where the text is the truth's, raw or parsed; ``text`` where one begins or ends
        the other, so that the answer ended elsewhere or lost something; ``form`` where the same
        ASCII letters and digits are written with other marks or spaces, or where calls differ: both
        what was generated and what was made of it can do that; ``answer`` where the words are
        others.
    """
    mine, truth = _parts(seen_message, seen), _parts(true_message, true)
    if mine["calls"] and truth["calls"]:
        return "form" if mine["calls"] != truth["calls"] else "message"
    if mine["calls"]:
        return "text" if all(name in true for name in mine["names"]) else "answer"
    if seen in (true, truth["content"]):
        return "message"
    if mine["reasoning"].strip() in true and any(
        _is_piece(seen.strip(), whole) or _is_piece(whole, seen.strip())
        for whole in (true.strip(), truth["content"].strip())
    ):
        return "text"
    words = _NO_WORD.sub("", mine["reasoning"] + seen)
    return "form" if words and words == _NO_WORD.sub("", true) else "answer"


def _is_piece(part: str, whole: str) -> bool:
    """Whether a text begins with another, or ends with it after something that is no word."""
    if whole.startswith(part):
        return True
    return whole.endswith(part) and not whole[-len(part) - 1].isalnum()


def shared_bytes(seen: str, true: str) -> int:
    """Return with how many equal bytes of UTF-8, up to a whole character, two texts begin."""
    return len(true[: parting(true, seen)].encode(errors="replace"))


def _parts(message: str, text: str) -> dict[str, Any]:
    """Return a message's content, reasoning and calls; the text is the content without one."""
    try:
        found = json.loads(message)
    except UNREADABLE:
        found = None
    if not isinstance(found, dict):
        found = {"content": text}
    listed = found.get("tool_calls")
    calls = [c for c in listed if isinstance(c, dict)] if isinstance(listed, list) else []
    return {
        "content": str(found.get("content") or ""),
        "reasoning": str(found.get("reasoning_content") or ""),
        "calls": calls,
        "names": [str(call.get("name")) for call in calls],
    }
