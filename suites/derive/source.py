"""A model's files as cases are derived from them: what its template takes and does not take."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from suites.derive.conversations import (
    WEATHER,
    Shape,
    assistant,
    call,
    result,
    system,
    user,
)
from suites.derive.vocabulary import added_tokens
from suites.model_files import ModelFiles
from suites.rendering import Rendered
from suites.suite import JsonObject

#: Keys under which templates look for the reasoning of an answer.
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "thinking_content")


class Source:
    """One model, the context in which it is served, and what was noticed on the way."""

    def __init__(self, files: ModelFiles, context: int) -> None:
        self.files, self.context = files, context
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a finding about the model's files, once."""
        if text not in self.notes:
            self.notes.append(text)

    def prompt(
        self,
        messages: Sequence[JsonObject],
        tools: Sequence[JsonObject] = (),
        options: JsonObject | None = None,
        *,
        open_turn: bool = True,
    ) -> str | None:
        """Return the prompt of a conversation; None where the template refuses it."""
        if not self.has_template:
            return None
        found = self.files.rendering(messages, tools, options, open_turn=open_turn)
        return found.text if isinstance(found, Rendered) else None

    @property
    def has_template(self) -> bool:
        """Whether conversations have a prompt at all."""
        return bool(self.files.templates.sources)

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system message reaches the prompt."""
        return "zqv" in (self.prompt([system("zqv"), user("a")]) or "")

    @cached_property
    def takes_tools(self) -> bool:
        """Whether tool definitions reach the prompt."""
        return "weather_get" in (self.prompt([user("a")], [WEATHER]) or "")

    @cached_property
    def argument_form(self) -> str | None:
        """``object`` or ``string``: how calls of history give arguments; None if it prints none.

        OpenAI's API sends a string, but most templates expect what it stands for.
        """
        for form, arguments in (("object", {"city": "zqv"}), ("string", '{"city": "zqv"}')):
            messages = [
                user("a"),
                assistant("", tool_calls=[call("weather_get", arguments)]),
                result("13"),
            ]
            found = self.prompt(messages, [WEATHER]) or ""
            if "zqv" in found and found.count("weather_get") > self._named_by_tools:
                return form
        return None

    @cached_property
    def reasoning_key(self) -> str | None:
        """The key under which the template reads the reasoning of an answer; None for none."""
        for key in _REASONING_KEYS:
            answer = assistant("4", **{key: "zqv"})
            for messages in ([user("a"), answer], [user("a"), answer, user("b")]):
                if "zqv" in (self.prompt(messages, open_turn=False) or ""):
                    return key
        return None

    @cached_property
    def turns(self) -> tuple[JsonObject, ...]:
        """What begins a conversation: a system message, where the template takes one."""
        return (system("You are a helpful assistant."),) if self.takes_system else ()

    @cached_property
    def specials(self) -> list[dict[str, Any]]:
        """The control tokens: added tokens that users never see."""
        return [t for t in added_tokens(self.files) if t.get("special")]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of the control tokens."""
        return frozenset(int(token["id"]) for token in self.specials)

    def fitted(self, shape: Shape) -> Shape:
        """Return a shape with arguments in the form that the template prints."""
        return replace(shape, messages=tuple(self.fitted_message(m) for m in shape.messages))

    def fitted_message(self, message: JsonObject) -> JsonObject:
        """Return a message with arguments in the form that the template prints."""
        return _with_strings(message) if self.argument_form == "string" else message

    @property
    def _named_by_tools(self) -> int:
        return (self.prompt([user("a")], [WEATHER]) or "").count("weather_get")


def _with_strings(message: JsonObject) -> JsonObject:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_with_string(one) for one in calls]}


def _with_string(one: dict[str, Any]) -> dict[str, Any]:
    function = one["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**one, "function": {**function, "arguments": arguments}}
