"""Tool-calling tasks: choose one of three listed tools, call it, and answer from its result."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from exchange import Exchange, Message, Split, Tool, assistant, user
from lexicon import ANIMALS, CITIES, COLORS

Value = str | int


@dataclass(frozen=True)
class ToolKind:
    """One kind of tool: what it takes, what it returns and how people ask for it."""

    description: str
    argument: str
    values: tuple[Value, ...]
    result_key: str
    draw_result: Callable[[random.Random], Value]
    questions: tuple[str, str, str]
    answer: str  # names the argument {v} first, then the result {x}: the order of the result

    @property
    def json_type(self) -> str:
        """The JSON Schema type of the argument."""
        return "string" if isinstance(self.values[0], str) else "integer"


def _two_digits(rng: random.Random) -> Value:
    return rng.randint(10, 99)


def _clock(rng: random.Random) -> Value:
    return f"{rng.randint(10, 23)}:{rng.randint(10, 59)}"


_AMOUNTS: Final = tuple(range(10, 100))

TOOL_KINDS: Final[dict[str, ToolKind]] = {
    "weather": ToolKind(
        "Weather in a city", "city", CITIES, "degrees", lambda rng: rng.randint(0, 39),
        ("What is the weather in {}?", "How is the weather in {}?", "Tell me the weather in {}."),
        "In {v} it is {x} degrees.",
    ),
    "time": ToolKind(
        "Time in a city", "city", CITIES, "time", _clock,
        ("What time is it in {}?", "Tell me the time in {}.", "What is the time in {}?"),
        "In {v} it is {x}.",
    ),
    "people": ToolKind(
        "People in a city", "city", CITIES, "count", _two_digits,
        ("How many people live in {}?", "Count the people in {}.",
         "Tell me how many people are in {}."),
        "In {v} there are {x} people.",
    ),
    "timer": ToolKind(
        "Set a timer", "minutes", _AMOUNTS, "id", _two_digits,
        ("Set a timer for {} minutes.", "Start a timer of {} minutes.",
         "I need a timer for {} minutes."),
        "The timer for {v} minutes is number {x}.",
    ),
    "volume": ToolKind(
        "Set the volume", "level", _AMOUNTS, "was", _two_digits,
        ("Set the volume to {}.", "Turn the volume to {}.", "Change the volume to {}."),
        "The volume is now {v} and was {x}.",
    ),
    "heat": ToolKind(
        "Set the heat", "degrees", _AMOUNTS, "was", _two_digits,
        ("Set the heat to {} degrees.", "Turn the heat to {}.", "Change the heat to {} degrees."),
        "The heat is now {v} and was {x}.",
    ),
    "paint": ToolKind(
        "Paint the wall", "color", COLORS, "cans", _two_digits,
        ("Paint the wall {}.", "Make the wall {}.", "I want a {} wall."),
        "The {v} wall needs {x} cans.",
    ),
    "pet": ToolKind(
        "Age of a pet", "animal", ANIMALS, "age", _two_digits,
        ("How old is the {}?", "Tell me the age of the {}.", "What is the age of the {}?"),
        "The {v} is {x} years old.",
    ),
}  # fmt: skip

_SUFFIXES: Final = ("get", "now", "api", "tool", "run")


@dataclass(frozen=True)
class Toolbox:
    """The tools of one conversation: the name of each kind present, and their definitions."""

    names: dict[str, str]
    definitions: list[Tool]


@dataclass(frozen=True)
class _Request:
    """One thing a user asks of one tool."""

    kind: str
    form: int
    value: Value

    def text(self, value: str | None = None) -> str:
        shown = str(self.value) if value is None else value
        return TOOL_KINDS[self.kind].questions[self.form].format(shown)

    def call(self, toolbox: Toolbox) -> Message:
        arguments = {TOOL_KINDS[self.kind].argument: self.value}
        function = {"name": toolbox.names[self.kind], "arguments": arguments}
        return {"type": "function", "function": function}

    def result(self, rng: random.Random) -> tuple[Message, str]:
        """Draw what the tool returns: its message, and the sentence that reports it.

        The result repeats the argument, so that two results can be told apart.
        """
        kind = TOOL_KINDS[self.kind]
        drawn = kind.draw_result(rng)
        content = json.dumps({kind.argument: self.value, kind.result_key: drawn})
        return {"role": "tool", "content": content}, kind.answer.format(v=self.value, x=drawn)


def draw_toolbox(rng: random.Random) -> Toolbox:
    """Draw three tools in random order.

    Each name gets a random ending, so that it must be read from the list rather than known.
    """
    kinds = rng.sample(sorted(TOOL_KINDS), 3)
    names = {kind: f"{kind}_{rng.choice(_SUFFIXES)}" for kind in kinds}
    return Toolbox(names, [_definition(kind, names[kind]) for kind in kinds])


def _definition(kind_name: str, name: str) -> Tool:
    kind = TOOL_KINDS[kind_name]
    parameters = {
        "type": "object",
        "properties": {kind.argument: {"type": kind.json_type}},
        "required": [kind.argument],
    }
    function = {"name": name, "description": kind.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _draw_request(rng: random.Random, kind: str, split: Split) -> _Request:
    while True:
        form, value = rng.randrange(3), rng.choice(TOOL_KINDS[kind].values)
        if split.admits("tool", kind, form, value):
            return _Request(kind, form, value)


def one_call(rng: random.Random, toolbox: Toolbox, split: Split, with_result: bool) -> Exchange:
    """Ask for one thing; optionally go on with the result and the answer."""
    request = _draw_request(rng, rng.choice(sorted(toolbox.names)), split)
    return _exchange(rng, toolbox, request.text(), [request], with_result, "tool", "after")


def two_calls(rng: random.Random, toolbox: Toolbox, split: Split, with_result: bool) -> Exchange:
    """Ask for two things at once: one tool for two values, or two tools.

    The split governs the first request; the second is drawn from all.
    """
    if rng.random() < 0.5:
        first = _draw_request(rng, rng.choice(sorted(toolbox.names)), split)
        others = [v for v in TOOL_KINDS[first.kind].values if v != first.value]
        second = _Request(first.kind, first.form, rng.choice(others))
        text = first.text(f"{first.value} and {second.value}")
    else:
        first_kind, second_kind = rng.sample(sorted(toolbox.names), 2)
        first = _draw_request(rng, first_kind, split)
        second = _draw_request(rng, second_kind, Split.ANY)
        while second.value == first.value:
            second = _draw_request(rng, second_kind, Split.ANY)
        text = f"{first.text()} {second.text()}"
    requests = [first, second]
    return _exchange(rng, toolbox, text, requests, with_result, "two_tools", "after_two")


def _exchange(
    rng: random.Random,
    toolbox: Toolbox,
    text: str,
    requests: list[_Request],
    with_result: bool,
    call_task: str,
    answer_task: str,
) -> Exchange:
    calls = [request.call(toolbox) for request in requests]
    messages, tasks = [user(text), assistant("", tool_calls=calls)], [call_task]
    if with_result:
        results = [request.result(rng) for request in requests]
        messages += [message for message, _ in results]
        messages.append(assistant(" ".join(sentence for _, sentence in results)))
        tasks.append(answer_task)
    return Exchange(messages, tasks)
