"""Cases of the stage ``template``: conversation shapes, and the template's own switches."""

from collections.abc import Iterator
from dataclasses import replace

from suites.derive.conversations import (
    CLOCK,
    WEATHER,
    Shape,
    assistant,
    call,
    plain_shapes,
    reasoning_shapes,
    result,
    tool_shapes,
    user,
)
from suites.derive.source import Source
from suites.derive.switches import switches
from suites.suite import Case, Golden, JsonObject


def shapes(source: Source) -> Iterator[Shape]:
    """Yield the conversations that this model's template takes, each with another prompt.

    What it refuses, or prints as if a part of it were not there, is noted and left out: engines
    have nothing to agree on then.
    """
    seen: set[str] = set()
    for shape in _asked(source):
        prompt = source.prompt(shape.messages, shape.tools, shape.options)
        if prompt is None:
            found = source.files.rendering(shape.messages, shape.tools, shape.options)
            source.note(f"the template refuses {shape.name}: {getattr(found, 'reason', '')}"[:300])
        elif (key := repr((prompt, shape.messages, shape.tools))) not in seen:
            seen.add(key)
            yield shape


def template_cases(source: Source) -> Iterator[Case]:
    """Yield a case for each shape."""
    if not source.has_template:
        return
    for shape in shapes(source):
        yield Case(
            id=f"template/{shape.name}",
            stage="template",
            tags=shape.tags,
            messages=shape.messages,
            tools=shape.tools or None,
            template_options=shape.options,
            golden=Golden(prompt_text=source.prompt(shape.messages, shape.tools, shape.options)),
        )


def _asked(source: Source) -> Iterator[Shape]:
    yield from plain_shapes()
    yield from _same_in_parts(source)
    if not source.takes_tools:
        source.note("the template ignores tool definitions")
    for shape in tool_shapes():
        calls = "calls" in shape.tags
        if calls and source.argument_form is None:
            source.note("the template ignores tool calls in the history")
        elif calls or source.takes_tools or shape.name == "tool":
            yield source.fitted(shape)
    if source.argument_form is not None:
        yield from _same_calls(source)
    if source.reasoning_key is None:
        source.note("the template reads no reasoning of earlier answers")
    else:
        for shape in reasoning_shapes(source.reasoning_key):
            if "calls" not in shape.tags or source.argument_form is not None:
                yield source.fitted(shape)
    yield from _switched(source)


def _switched(source: Source) -> Iterator[Shape]:
    """Yield conversations with each setting of each switch."""
    question = (*source.turns, user("What is 4 + 9 + 16?"))
    for name, options in switches(source):
        yield Shape(name, question, (), ("switch",), options)
        if source.takes_tools:
            yield Shape(f"{name}-tools", question, (WEATHER,), ("switch", "tools"), options)
        if source.reasoning_key is not None:
            history = next(iter(reasoning_shapes(source.reasoning_key)))
            yield replace(history, name=f"{name}-history", tags=("switch",), options=options)


def _same_in_parts(source: Source) -> Iterator[Shape]:
    """Yield content in parts, if the template itself prints it as the text that it is."""
    parts: list[JsonObject] = [{"type": "text", "text": "Why is the sky blue?"}]
    messages: tuple[JsonObject, ...] = ({"role": "user", "content": parts},)
    if source.prompt(messages) == source.prompt([user("Why is the sky blue?")]):
        yield Shape("content-in-parts", messages, (), ("parts",))
    else:
        source.note("the template does not take content in parts: servers have to join them")


def _same_calls(source: Source) -> Iterator[Shape]:
    """Yield calls in OpenAI's form, where the template prints them like its own form.

    Clients send arguments as a string and no content. An engine that does not translate them gives
    the model another prompt, if the template does not care.
    """
    question, tools = user("What is the weather in Lima?"), (WEATHER, CLOCK)
    arguments = {"city": "Lima", "unit": "c"}
    plain = Shape(
        "null-content",
        (
            question,
            assistant("", tool_calls=[call("weather_get", arguments)]),
            result("22"),
        ),
        tools,
        ("tools", "calls"),
    )
    plain = source.fitted(plain)
    expected = source.prompt(plain.messages, tools)
    null = replace(plain, messages=(question, {**plain.messages[1], "content": None}, result("22")))
    if source.prompt(null.messages, tools) == expected:
        yield null
    else:
        source.note("the template prints a call with null content unlike one with empty content")
    if source.argument_form == "object":
        text = assistant("", tool_calls=[call("weather_get", '{"city": "Lima", "unit": "c"}')])
        messages = (question, text, result("22"))
        if source.prompt(messages, tools) == expected:
            yield replace(plain, name="string-arguments", messages=messages)
        else:
            source.note("the template prints arguments given as a string unlike an object")
