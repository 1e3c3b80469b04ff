"""One form for equal facts and equal assistant messages: the runner and analysis compare by it.

Standard library only, so that the engine child can import it too. What comes from an engine is
untrusted: nothing here raises for a text or a message of any shape.
"""

import contextlib
import hashlib
import json
import struct
from typing import Any

#: Stages whose output is a text; a text that happens to be JSON stays as it is.
_TEXT_STAGES = ("template", "detokenize")
#: What Python's JSON raises for texts that an engine may write: broken, too deep, too large.
UNREADABLE = (ValueError, TypeError, RecursionError, OverflowError)


def canonical_fact(fact: str, text: str) -> str:
    """Return one text for equal facts: numbers as float32, as GGUF keeps them; EOS ids as a set.

    Args:
        fact: name of the fact.
        text: its value as JSON; a text that is no JSON is returned as it is.
    """
    try:
        value = as_stored(json.loads(text))
        if fact == "eos_ids" and isinstance(value, list):
            value = sorted(set(value), key=str)
        return json.dumps(value, sort_keys=True)
    except UNREADABLE:
        return text


def output_digest(stage: str, output: Any) -> str:
    """Return ``o1:…``, the digest of what is compared at a stage.

    Args:
        stage: the stage of the output.
        output: the compared text, or the plain data of which that text is the JSON.
    """
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    if stage not in _TEXT_STAGES:
        with contextlib.suppress(*UNREADABLE):
            text = json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True)
    return f"o1:{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


def as_stored(value: Any) -> Any:
    """Return a JSON value with its numbers as GGUF keeps them: float32, whole ones as integers."""
    if isinstance(value, float):
        single = struct.unpack("f", struct.pack("f", value))[0] if abs(value) < 3e38 else value
        return int(single) if single == int(single) else single
    if isinstance(value, list):
        return [as_stored(item) for item in value]
    if isinstance(value, dict):
        return {key: as_stored(item) for key, item in value.items()}
    return value


def canonical_message(message: dict[str, Any], *, ordered: bool = True) -> dict[str, Any]:
    """Return content, reasoning_content and tool calls; ids and nulls are left out.

    Call ids are random in most engines and carry no meaning of their own. Arguments are parsed and
    written again, so that spacing is no difference. Arguments that are no JSON stay as they came.

    Args:
        message: an assistant message.
        ordered: whether the order of argument keys counts.
    """
    return {
        "content": message.get("content") or "",
        "reasoning_content": message.get("reasoning_content") or "",
        "tool_calls": [_call(call, ordered=ordered) for call in message.get("tool_calls") or []],
    }


def called_function(call: Any) -> dict[str, Any]:
    """Return the ``function`` part of a tool call, or the call itself where it has no such part."""
    if not isinstance(call, dict):
        return {}
    inner = call.get("function")
    return inner if isinstance(inner, dict) else call


def _call(call: Any, *, ordered: bool) -> dict[str, Any]:
    function = called_function(call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except UNREADABLE:
            return {"name": function.get("name"), "arguments": arguments}
    dumped = json.dumps(arguments, ensure_ascii=False, sort_keys=not ordered)
    return {"name": function.get("name"), "arguments": dumped}
