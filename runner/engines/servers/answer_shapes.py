"""What must hold of an answer before anything reads it: foreign JSON has any shape."""

from typing import Any

#: Token counts are stored as int32.
_MOST_TOKENS = 2**31
_TEXTS = ("content", "reasoning", "reasoning_content", "refusal")


class Misshapen(Exception):
    """An answer is not what OpenAI's API promises; says where."""


def check_answer(answer: Any, *, streamed: bool) -> None:
    """Check an answer of chat/completions or completions, or one event of its stream.

    Raises:
        Misshapen: something in it is of another kind than the API says.
    """
    found = _kind(answer, dict, "the answer")
    for name in ("prompt_tokens", "completion_tokens"):
        count = (_optional(found.get("usage"), dict, "usage") or {}).get(name)
        if count is not None and not (_whole(count) and 0 <= count < _MOST_TOKENS):
            raise Misshapen(f"usage.{name} is {_named(count)}")
    choices = found.get("choices")
    if streamed and not choices:
        return  # An event may carry nothing but usage.
    if not _kind(choices, list, "choices"):
        raise Misshapen("choices is empty")
    for choice in choices:
        _check_choice(_kind(choice, dict, "a choice"), "delta" if streamed else "message", streamed)


def _check_choice(choice: dict[str, Any], name: str, streamed: bool) -> None:
    _optional(choice.get("finish_reason"), str, "finish_reason")
    text = _optional(choice.get("text"), str, "text")
    message = _optional(choice.get(name), dict, name)
    if message is None:
        if text is None and not streamed:
            raise Misshapen("a choice has neither message nor text")
        return
    for key in _TEXTS:
        _optional(message.get(key), str, key)
    for call in _optional(message.get("tool_calls"), list, "tool_calls") or ():
        index = _kind(call, dict, "a tool call").get("index")
        if index is not None and not _whole(index):
            raise Misshapen(f"index is {_named(index)}")
        function = _optional(call.get("function"), dict, "function") or {}
        _optional(call.get("id"), str, "id")
        _optional(function.get("name"), str, "name")
        arguments = function.get("arguments")
        if streamed or not isinstance(arguments, dict):
            _optional(arguments, str, "arguments")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _optional(value: Any, kind: type, name: str) -> Any:
    return None if value is None else _kind(value, kind, name)


def _kind(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        raise Misshapen(f"{name} is {_named(value)}, not {_KINDS[kind]}")
    return value


def _named(value: Any) -> str:
    """Return a value's kind, and the value where it is short."""
    kind = "null" if value is None else _KINDS.get(type(value), "something else")
    short = isinstance(value, str | int | float) and len(str(value)[:50]) < 40
    return f"{kind} ({value!r})" if short else kind


_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
}
