"""Cases whose truth is numbers: ``logits``, ``state`` and ``sampling``, and the whole chain.

They are few and short: each position of each case costs a forward pass of every engine.
"""

from collections.abc import Iterator

from suites.derive.conversations import CLOCK, USER_TEXTS, WEATHER, assistant, user
from suites.derive.source import Source
from suites.suite import Case, JsonObject, SamplingParameters, Scenario

#: Lengths of prompts in tokens; a context that is served shorter leaves out the longer ones.
_LENGTHS = (64, 160, 320, 640)
_ANSWER = 16
_PLACES = ("Oslo", "Rome", "Lima", "Cairo", "Paris", "Delhi", "Tokyo", "Quito")
_THINGS = ("river", "gate", "train", "garden", "bridge", "market", "tower", "library")
_COLOURS = ("red", "blue", "green", "white", "black", "yellow")


def logits_cases(source: Source) -> Iterator[Case]:
    """Yield short conversations of each kind, and prompts up to the context that is served."""
    for name, tag, text in (
        ("fact", "short", USER_TEXTS[0]),
        ("prose", "short", USER_TEXTS[1]),
        ("sum", "short", "What is 17 + 25?"),
        ("code", "short", "Write a function in Python that adds two numbers."),
        ("unicode", "short", "Translate into English: Grüße aus München, 東京 und Łódź."),
    ):
        yield _logits(name, tag, _asked(source, text))
    if source.has_template:
        first, second = USER_TEXTS[0], USER_TEXTS[2]
        turns = (user(first), assistant("The capital of France is Paris."), user(second))
        yield _logits("later-turn", "short", {"messages": (*source.turns, *turns)})
    if source.takes_tools:
        asked = {"messages": (user("What is the weather in Oslo?"),), "tools": (WEATHER, CLOCK)}
        yield _logits("tools", "short", asked)
    for length in _LENGTHS:
        if length + _ANSWER <= source.context:
            text = _of_length(source, length)
            yield _logits(f"length-{length}", "length", _asked(source, text))


def state_cases(source: Source) -> Iterator[Case]:
    """Yield one conversation among others in each way that servers mix them."""
    if not source.has_template:
        return
    first, second, third, last = (user(text) for text in USER_TEXTS)
    alone = (*source.turns, first)
    others = ((second,), (*source.turns, third), (last,))
    for name, tokens, scenario in (
        ("batched", 8, Scenario(kind="batched", sizes=(2, 3), beside=others[:2])),
        ("chunked", 8, Scenario(kind="chunked", sizes=(3, 16))),
        ("prefix", 8, Scenario(kind="prefix", beside=((*source.turns, second),))),
        ("reused", 8, Scenario(kind="reused", beside=others[:1])),
        ("concurrent", 12, Scenario(kind="concurrent", sizes=(2, 3), beside=others)),
    ):
        yield Case(
            id=f"state/{name}",
            stage="state",
            tags=(name,),
            messages=alone,
            max_tokens=tokens,
            scenario=scenario,
        )


def sampling_cases(source: Source) -> Iterator[Case]:
    """Yield what needs few answers: argmax, seeds, and draws with and without parameters."""
    story = _asked(source, "Tell me a story.")
    neutral = {"temperature": 1.0, "top_k": source.files.size, "top_p": 1.0, "min_p": 0.0}
    for name, tag, measure, tokens, parameters in (
        ("greedy", "greedy", "greedy", 16, {}),
        ("greedy-penalty", "penalties", "greedy", 16, {"repetition_penalty": 1.3}),
        ("seed", "seed", "seed", 8, {"temperature": 1.0}),
        ("plain", "plain", "draws", 1, {}),
        ("neutral", "temperature", "draws", 1, neutral),
        ("top-k", "cuts", "draws", 1, {**neutral, "top_k": 5}),
    ):
        yield Case.model_validate(
            {
                "id": f"sampling/{name}",
                "stage": "sampling",
                "tags": (tag,),
                **story,
                "max_tokens": tokens,
                "asked": SamplingParameters.model_validate(parameters),
                "measure": measure,
                "draws": 500,
            }
        )


def chain_cases(source: Source) -> Iterator[Case]:
    """Yield whole conversations, messages in and message out."""
    if not source.has_template:
        return
    first, second, third, _ = USER_TEXTS
    turns = (user(first), assistant("The capital of France is Paris."), user("And of Italy?"))
    tools = (WEATHER, CLOCK) if source.takes_tools else ()
    for name, messages, offered in (
        ("fact", (user(first),), ()),
        ("prose", (*source.turns, user(second)), ()),
        ("later-turn", (*source.turns, *turns), ()),
        ("unicode", (user("Say in French: Good morning, Zoë! 東京 \U0001f680"),), ()),
        ("why", (user(third),), ()),
        *((("tools", (user("What is the weather in Oslo?"),), tools),) if tools else ()),
    ):
        yield Case(
            id=f"chain/{name}",
            stage="chain",
            tags=("tools",) if offered else ("plain",),
            messages=messages,
            tools=offered or None,
            max_tokens=24,
        )


def _asked(source: Source, text: str) -> JsonObject:
    """Return the keys of a question: a chat, or a text where the model has no template."""
    if source.has_template:
        return {"messages": (*source.turns, user(text))}
    return {"text": text}


def _logits(name: str, tag: str, asked: JsonObject) -> Case:
    keys = {"id": f"logits/{name}", "stage": "logits", "tags": (tag,), "max_tokens": _ANSWER}
    return Case.model_validate({**keys, **asked})


def _of_length(source: Source, tokens: int) -> str:
    """Return a text whose prompt has about ``tokens`` tokens, and never more."""
    text, number = "Remember all of this.", 0
    while True:
        place, thing = _PLACES[number % 8], _THINGS[(number * 3 + number // 8) % 8]
        colour = _COLOURS[(number * 5 + number // 6) % 6]
        longer = f"{text} In {place} the {colour} {thing} has the number {number * 37 % 101}."
        if _tokens(source, longer + _LAST) > tokens:
            return text + _LAST
        text, number = longer, number + 1


_LAST = "\n\nWhat is the number of the first one?"


def _tokens(source: Source, text: str) -> int:
    prompt = source.prompt(_asked(source, text).get("messages", ()))
    return len(source.files.encode(text if prompt is None else prompt, add_special=True))
