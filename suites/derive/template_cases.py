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
from suites.rendering import Refused, Rendered
from suites.suite import Case, Golden, JsonObject

#: Refusals in a suite, and characters of the message by which an engine's own is known.
_MOST_REFUSALS, _LONGEST_MESSAGE = 6, 120


def shapes(source: Source) -> Iterator[Shape]:
    """Yield the conversations that this model's template takes."""
    for shape, found in _rendered(source):
        if isinstance(found, Rendered):
            yield shape


def template_cases(source: Source) -> Iterator[Case]:
    """Yield a case for each conversation, and one for each message with which one is refused."""
    refusals: dict[str, list[str]] = {}
    for shape, found in _rendered(source):
        if isinstance(found, Rendered):
            yield _case(shape, shape.name, Golden(prompt_text=found.text))
            continue
        message = (found.reason.splitlines() or [""])[0].strip()[:_LONGEST_MESSAGE]
        named = refusals.setdefault(message, [])
        named.append(shape.name)
        if found.raised and message and len(named) == 1 and len(refusals) <= _MOST_REFUSALS:
            shape = replace(shape, tags=("refused",))
            yield _case(shape, f"refused-{shape.name}", Golden(refused=message))
    for message, names in refusals.items():
        source.note(f"the template refuses {', '.join(names)}: {message}")


def _case(shape: Shape, name: str, golden: Golden) -> Case:
    return Case(
        id=f"template/{name}",
        stage="template",
        tags=shape.tags,
        messages=shape.messages,
        tools=shape.tools or None,
        template_options=shape.options,
        golden=golden,
    )


def _rendered(source: Source) -> Iterator[tuple[Shape, Rendered | Refused]]:
    """Yield each conversation with its prompt or refusal, each prompt once.

    What a template refuses with a system message is asked again without it.
    """
    if not source.has_template:
        return
    seen: set[str] = set()
    for shape in _asked(source):
        found = source.files.rendering(shape.messages, shape.tools, shape.options)
        if isinstance(found, Refused):
            yield shape, found
            if shape.messages[0]["role"] != "system":
                continue
            shape = replace(shape, messages=shape.messages[1:])
            found = source.files.rendering(shape.messages, shape.tools, shape.options)
        key = repr((found, shape.messages, shape.tools))
        if isinstance(found, Rendered) and key not in seen:
            seen.add(key)
            yield shape, found


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
