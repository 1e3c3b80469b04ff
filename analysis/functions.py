"""What SQL cannot say for itself: critical values, version ranges, and one form for equal JSON.

Evidence is untrusted, and an error in here would make the whole run unjudgeable. So every function
is total: what it cannot take apart is compared as the text that it is.
"""

import json
import struct
from collections.abc import Callable
from typing import Any

import duckdb
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from scipy import stats

from analysis.differences import UNREADABLE, shown_difference


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Make the functions known to a connection; each returns NULL for a NULL argument."""
    for function, argument, returns in _FUNCTIONS:
        types: list[Any] = [argument, argument]
        con.create_function(function.__name__, function, types, duckdb.type(returns))


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Take the functions away again, so that users' queries run no Python."""
    for function, _, _ in _FUNCTIONS:
        con.remove_function(function.__name__)


def t_upper_tail(t: float, degrees: float) -> float:
    """Return P(T > t) of Student's t."""
    return float(stats.t.sf(t, degrees))


def version_in(version: str, versions: str) -> bool:
    """Whether a version lies in a range such as ``>=0.3,<0.4``; an unreadable one does not."""
    try:
        return SpecifierSet(versions).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier, *UNREADABLE):
        return False


def canonical_fact(fact: str, text: str) -> str:
    """Return one text for equal facts: numbers at GGUF's float32, EOS ids as a set."""
    try:
        value = _rounded(json.loads(text))
        if fact == "eos_ids" and isinstance(value, list):
            value = sorted(set(value), key=str)
        return json.dumps(value, sort_keys=True)
    except UNREADABLE:
        return text


def _rounded(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        single = struct.unpack("f", struct.pack("f", value))[0] if abs(value) < 3e38 else value
        return int(single) if single == int(single) else single
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return {key: _rounded(item) for key, item in value.items()}


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
    ordered = all(isinstance(_function(c).get("arguments"), str) for c in calls or [])
    found = {
        "content": message.get("content") or "",
        "reasoning_content": message.get("reasoning_content") or "",
        "tool_calls": [_call(c, ordered=ordered) for c in message.get("tool_calls") or []],
    }
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


def _function(call: Any) -> dict[str, Any]:
    if not isinstance(call, dict):
        return {}
    inner = call.get("function")
    return inner if isinstance(inner, dict) else call


def _call(call: Any, *, ordered: bool) -> dict[str, Any]:
    function = _function(call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except UNREADABLE:
            return {"name": function.get("name"), "arguments": arguments}
    dumped = json.dumps(arguments, ensure_ascii=False, sort_keys=not ordered)
    return {"name": function.get("name"), "arguments": dumped}


_FUNCTIONS: tuple[tuple[Callable[..., Any], str, str], ...] = (
    (t_upper_tail, "DOUBLE", "DOUBLE"),
    (version_in, "VARCHAR", "BOOLEAN"),
    (canonical_fact, "VARCHAR", "VARCHAR"),
    (canonical_message, "VARCHAR", "VARCHAR"),
    (shown_difference, "VARCHAR", "VARCHAR"),
)
