"""One JSON text for equal assistant messages, for SQL."""

import json
from typing import Any

from runner.stored import canonical
from runner.stored.canonical import UNREADABLE, called_function


def canonical_message(text: str, truth: str) -> str:
    """Return one JSON text for equal assistant messages.

    Nulls equal empty, call ids and spacing carry no meaning; the order of argument keys does,
    unless ``truth`` itself gives arguments as an object, whose order was never stored. The result
    is JSON also where ``text`` is none.
    """
    try:
        found = _message(json.loads(text), json.loads(truth))
        # DuckDB takes no half of a surrogate pair.
        found.encode()
    except UNREADABLE:
        return json.dumps(text, ensure_ascii=False)
    return found


def _message(message: Any, model: Any) -> str:
    if not isinstance(message, dict):
        return json.dumps(message, ensure_ascii=False, allow_nan=False)
    calls = model.get("tool_calls") if isinstance(model, dict) else None
    ordered = all(isinstance(called_function(c).get("arguments"), str) for c in calls or [])
    found = canonical.canonical_message(message, ordered=ordered)
    return json.dumps(found, ensure_ascii=False, allow_nan=False)
