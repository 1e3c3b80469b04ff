"""Conversations as clients send them: the shapes that a chat template meets."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from suites.suite import JsonObject

#: Nine letters and digits: templates of Mistral refuse any other id.
_IDS = ("call12345", "call12346")

WEATHER: JsonObject = {
    "type": "function",
    "function": {
        "name": "weather_get",
        "description": "Weather in a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city"},
                "unit": {"type": "string", "enum": ["c", "f"]},
            },
            "required": ["city"],
        },
    },
}
CLOCK: JsonObject = {
    "type": "function",
    "function": {
        "name": "time_now",
        "description": "Time in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city"}},
            "required": ["city"],
        },
    },
}
#: Each type of JSON, keys in no alphabetic order, texts that some engines escape.
RICH: JsonObject = {
    "type": "function",
    "function": {
        "name": "ticket_open",
        "description": 'Größe < 3 & "Höhe" > 2, l\'été à 東京 🚀 \\ / end',
        "parameters": {
            "type": "object",
            "required": ["title", "labels"],
            "properties": {
                "title": {"type": "string", "description": "<b>Title & text</b>"},
                "labels": {
                    "type": "array",
                    "description": "Labels",
                    "items": {"type": "string", "enum": ["bug", "°C"]},
                },
                "priority": {"type": "integer", "description": "1 to 5", "default": 3},
                "urgent": {"type": "boolean", "description": "At once", "default": False},
                "alpha": {
                    "type": "object",
                    "description": "More",
                    "properties": {"ratio": {"type": "number", "description": "A share"}},
                },
            },
        },
    },
}

USER_TEXTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Why is the sky blue?",
    "Thank you.",
)


@dataclass(frozen=True)
class Shape:
    """One conversation."""

    name: str
    messages: tuple[JsonObject, ...]
    tools: tuple[JsonObject, ...] = ()
    tags: tuple[str, ...] = ("plain",)
    options: JsonObject = field(default_factory=dict)


def system(text: str) -> JsonObject:
    """Return a system message."""
    return {"role": "system", "content": text}


def user(text: str) -> JsonObject:
    """Return a user message."""
    return {"role": "user", "content": text}


def assistant(text: str | None, **more: object) -> JsonObject:
    """Return an assistant message with ``more`` keys."""
    return {"role": "assistant", "content": text, **more}


def call(name: str, arguments: object, at: int = 0) -> JsonObject:
    """Return one tool call; ``arguments`` are an object, or its JSON."""
    return {"id": _IDS[at], "type": "function", "function": {"name": name, "arguments": arguments}}


def result(text: str, name: str = "weather_get", at: int = 0) -> JsonObject:
    """Return the result of a call."""
    return {"role": "tool", "tool_call_id": _IDS[at], "name": name, "content": text}


def plain_shapes() -> Iterator[Shape]:
    """Yield conversations without tools."""
    first, second, third, last = USER_TEXTS
    answer = "The capital of France is Paris."
    yield Shape("user-only", (user(first),))
    yield Shape("system-and-user", (system("You answer briefly."), user(first)))
    yield Shape("two-turns", (user(first), assistant(answer), user(second)))
    yield Shape(
        "many-turns",
        (
            system("You are a patient teacher."),
            user(first),
            assistant(answer),
            user(second),
            assistant("The sea is wide and deep."),
            user(third),
            assistant("Air scatters blue light most."),
            user(last),
        ),
    )
    yield Shape("empty-system", (system(""), user(first)))
    yield Shape("empty-user", (user(""),))
    yield Shape("empty-answer", (user(first), assistant(""), user(second)))
    yield Shape("late-system", (user(first), assistant(answer), system("Be brief."), user(last)))
    yield Shape("two-users", (user(first), user(second)))
    yield Shape("one-word", (user("Hi"),))
    yield Shape(
        "whitespace",
        (
            system(" You are kind.\n"),
            user("  Hello \n\n"),
            assistant("\n Hi! \t"),
            user("\n\n a \n"),
        ),
        tags=("whitespace",),
    )
    yield Shape("line-ends", (user("one\r\ntwo\rthree\n\n\nfour\u2028five"),), tags=("whitespace",))
    yield Shape(
        "unicode",
        (
            system("Grüße, l'été"),
            user("東京 🚀 नमस्ते \u05e9\u05dc\u05d5\u05dd cafe\u0301 \U0001f469\u200d\U0001f4bb"),
        ),
        tags=("unicode",),
    )
    yield Shape(
        "markup",
        (user("<b>1 < 2 && \"3\" > '2'</b> {{ messages }} {% if x %} {# no #} \\n %s [INST] ###"),),
        tags=("markup",),
    )
    yield Shape(
        "code",
        (user("def f(x):\n\treturn {'a': [x, 1]}\n\n```json\n{\"k\": null}\n```\n"),),
        tags=("markup",),
    )
    long = " ".join(
        f"Line {n}: the train to platform {n % 7} leaves at {n % 24}:00." for n in range(20)
    )
    yield Shape("long-user", (user(long),))


def tool_shapes() -> Iterator[Shape]:
    """Yield conversations with tool definitions, calls and results."""
    question, both = user("What is the weather in Oslo?"), (WEATHER, CLOCK)
    oslo = {"city": "Oslo", "unit": "c"}
    called = (question, assistant("", tool_calls=[call("weather_get", oslo)]))
    answered = (*called, result('{"degrees": 13}'))
    yield Shape("tool", (question,), (WEATHER,), ("tools",))
    yield Shape("tools", (question,), both, ("tools",))
    yield Shape("tools-other-order", (question,), (CLOCK, WEATHER), ("tools",))
    yield Shape("tools-json", (user("Open a ticket."),), (RICH,), ("tools",))
    yield Shape("tools-and-system", (system("You are a clerk."), question), both, ("tools",))
    yield Shape(
        "tools-later-turn",
        (user("Hello"), assistant("Hello! How can I help?"), question),
        both,
        ("tools",),
    )
    yield Shape("call-and-result", answered, both, ("tools", "calls"))
    yield Shape(
        "call-after-text",
        (question, assistant("I will look.", tool_calls=[call("weather_get", oslo)]), answered[2]),
        both,
        ("tools", "calls"),
    )
    yield Shape(
        "parallel-calls",
        (
            user("What is the time and the weather in Oslo?"),
            assistant(
                "",
                tool_calls=[call("weather_get", oslo), call("time_now", {"city": "Oslo"}, 1)],
            ),
            result('{"degrees": 13}'),
            result('{"time": "12:45"}', "time_now", 1),
        ),
        both,
        ("tools", "calls"),
    )
    yield Shape(
        "answered-call",
        (*answered, assistant("It is 13 degrees in Oslo."), user("And in Rome?")),
        both,
        ("tools", "calls"),
    )
    yield Shape(
        "unicode-arguments",
        (
            user("東京の天気は?"),
            assistant(
                "", tool_calls=[call("weather_get", {"unit": "°C", "city": '東京 "é" </b> \\ 🚀'})]
            ),
            result('晴れ "ok"'),
        ),
        both,
        ("tools", "calls"),
    )
    yield Shape(
        "deep-arguments",
        (
            user("Open a ticket."),
            assistant(
                "",
                tool_calls=[
                    call(
                        "ticket_open",
                        {
                            "title": "Heat",
                            "labels": ["bug"],
                            "urgent": True,
                            "alpha": {"ratio": 0.5},
                        },
                    )
                ],
            ),
            result("opened", "ticket_open"),
        ),
        (RICH,),
        ("tools", "calls"),
    )
    yield Shape(
        "empty-arguments",
        (
            user("What time is it?"),
            assistant("", tool_calls=[call("time_now", {})]),
            result("12:45", "time_now"),
        ),
        both,
        ("tools", "calls"),
    )
    yield Shape(
        "tools-gone",
        (*answered, assistant("It is 13 degrees in Oslo."), user("Thank you.")),
        (),
        ("tools", "calls"),
    )


def reasoning_shapes(key: str) -> Iterator[Shape]:
    """Yield conversations whose answers have reasoning under ``key``, as the template reads it."""
    thought = {key: "2 + 2 is 4.\n\nSo 4."}
    oslo = [call("weather_get", {"city": "Oslo"})]
    question = user("What is the weather in Oslo?")
    yield Shape(
        "reasoning-in-history",
        (user("What is 2 + 2?"), assistant("4", **thought), user("And 3 + 3?")),
        tags=("reasoning",),
    )
    yield Shape(
        "reasoning-in-two-turns",
        (
            system("You think first."),
            user("What is 2 + 2?"),
            assistant("4", **thought),
            user("And 3 + 3?"),
            assistant("6", **{key: "3 + 3 is 6."}),
            user("Thank you."),
        ),
        tags=("reasoning",),
    )
    yield Shape(
        "reasoning-and-call",
        (
            question,
            assistant("", tool_calls=oslo, **{key: "I need the weather."}),
            result('{"degrees": 13}'),
        ),
        (WEATHER, CLOCK),
        ("tools", "calls", "reasoning"),
    )
