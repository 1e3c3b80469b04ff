"""A streamed answer in OpenAI's form, put together as a client does it."""

from typing import Any

#: Servers call the thinking by either name, and some by both at once.
_TEXTS = {"content": ("content",), "reasoning_content": ("reasoning_content", "reasoning")}


class StreamedMessage:
    """Collects the deltas of one choice."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, delta: dict[str, Any]) -> bool:
        """Take one delta; return whether it brought anything of the answer."""
        brought = False
        for name, keys in _TEXTS.items():
            if piece := next(filter(None, map(delta.get, keys)), None):
                self._texts.setdefault(name, []).append(piece)
                brought = True
        for place, call in enumerate(delta.get("tool_calls") or ()):
            self._add_call(call.get("index", place), call)
            brought = True
        return brought

    def _add_call(self, index: int, piece: dict[str, Any]) -> None:
        """The id comes whole, and in some engines with every piece; the rest comes in pieces."""
        call = self._calls.setdefault(
            index, {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = call["id"] or piece.get("id")
        function = piece.get("function") or {}
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""

    def message(self) -> dict[str, Any]:
        """Return the message as a request without a stream returns it."""
        found: dict[str, Any] = {"role": "assistant", "content": ""}
        found |= {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._calls:
            found["tool_calls"] = [call for _, call in sorted(self._calls.items())]
        return found
