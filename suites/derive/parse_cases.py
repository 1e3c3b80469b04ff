"""Cases of the stage ``parse``: the template read backwards.

A message is rendered, and what the model would have to write for it is cut out of the prompt. So
the message is the right answer to that text, in whatever form the model writes calls.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from suites.derive.conversations import CLOCK, RICH, WEATHER, assistant, call, user
from suites.derive.markers import Markers, call_form_known, reasoning_known, written
from suites.derive.scripts import forced
from suites.derive.source import Source
from suites.suite import Case, Golden, JsonObject

_QUESTION = "What is the weather in Oslo?"


@dataclass(frozen=True)
class _Answer:
    """An answer of a model: what the message is."""

    name: str
    tag: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, JsonObject], ...] = ()


_OSLO = ("weather_get", {"city": "Oslo", "unit": "c"})
_ROME = ("time_now", {"city": "Rome"})
_CALLS = (
    _Answer("call", "calls", calls=(_OSLO,)),
    _Answer("two-calls", "calls", calls=(_OSLO, _ROME)),
    _Answer("call-after-content", "calls", "I will look.", calls=(_OSLO,)),
    _Answer("key-order", "calls", calls=(("weather_get", {"unit": "f", "city": "Oslo"}),)),
    _Answer("empty-arguments", "calls", calls=(("time_now", {}),)),
    _Answer(
        "unicode-arguments", "calls", calls=(("weather_get", {"city": "東京 café \U0001f680"}),)
    ),
    _Answer("escaped-arguments", "calls", calls=(("weather_get", {"city": 'a "b" \\ c\n\td'}),)),
    _Answer("braces-in-string", "calls", calls=(("weather_get", {"city": "}{ ]} </x> {"}),)),
    _Answer(
        "deep-arguments",
        "calls",
        calls=(
            (
                "ticket_open",
                {"title": "Heat", "labels": ["bug", "°C"], "urgent": True, "alpha": {"ratio": 0.5}},
            ),
        ),
    ),
)
_REASONING = (
    _Answer("reasoning", "reasoning", "7", "3 + 4 = 7\n\nSo 7."),
    _Answer("reasoning-with-markup", "reasoning", "Yes.", 'Is 1 < 2 & 3 > 2? {yes} "it is"'),
)
_CONTENT = (
    _Answer("content", "content", "Hello! How can I help you?"),
    _Answer("content-in-lines", "content", "One:\n\n- two\n  - three\n\nfour"),
    _Answer("json-content", "content", '{"name": "weather_get", "arguments": {"city": "Oslo"}}'),
)


def parse_cases(source: Source, markers: Markers) -> Iterator[Case]:
    """Yield answers in the model's own form; none where that form is not known."""
    calls, reasoning = call_form_known(source, markers), reasoning_known(source, markers)
    asked = [*(_CALLS if calls else ()), *(_REASONING if reasoning else ())]
    if not asked:
        return
    if calls and reasoning:
        asked.append(_Answer("reasoning-then-call", "calls", "", "I need the weather.", (_OSLO,)))
    for answer in (*_CONTENT, *asked):
        yield from _case(source, markers, answer)


def why_unknown(source: Source) -> str:
    """Return why no answer's form is known: how calls and reasoning are written."""
    if source.argument_form is None:
        return "the call format is not known: the template prints no tool calls"
    return (
        "the call format is not known: the template prints calls in the history in another form "
        "than the model writes them"
    )


def _case(source: Source, markers: Markers, answer: _Answer) -> Iterator[Case]:
    tools = (WEATHER, CLOCK, RICH) if answer.calls else ()
    text = written(source, markers, _message(source, answer), tools, _QUESTION)
    found = None if text is None else forced(source, markers, text)
    if found is None or not _is_complete(answer, found.script.text):
        source.note(f"the template does not print {answer.name} as the model writes it")
        return
    arguments = [(name, json.dumps(a, ensure_ascii=False)) for name, a in answer.calls]
    yield Case(
        id=f"parse/{answer.name}",
        stage="parse",
        tags=(answer.tag,),
        messages=(*source.turns, user(_QUESTION)),
        tools=tools or None,
        script=found.script,
        max_tokens=max(64, len(found.ids) + 8),
        golden=Golden(
            script_ids=found.ids,
            message={
                "content": answer.content,
                "reasoning_content": answer.reasoning,
                "tool_calls": [{"name": name, "arguments": text} for name, text in arguments],
            },
            finish_reason="tool_calls" if answer.calls else "stop",
        ),
    )


def _message(source: Source, answer: _Answer) -> JsonObject:
    more: JsonObject = {}
    if answer.calls:
        more["tool_calls"] = [call(*one, at=at) for at, one in enumerate(answer.calls)]
    if answer.reasoning and source.reasoning_key is not None:
        more[source.reasoning_key] = answer.reasoning
    return source.fitted_message(assistant(answer.content, **more))


def _is_complete(answer: _Answer, text: str) -> bool:
    """Whether the text has all parts of the answer: a template may trim or drop some."""
    parts = [answer.content, answer.reasoning, *(name for name, _ in answer.calls)]
    return all(part in text for part in parts)
