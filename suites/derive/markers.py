"""How a model writes an answer: found by rendering texts that occur nowhere else.

A template prints a conversation in the form in which the model writes. So what stands between an
answer and the next question closes a turn, and the text of a rendered answer is what the model has
to write for it: the template read backwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from suites.derive.conversations import CLOCK, WEATHER, assistant, call, user
from suites.derive.source import Source
from suites.suite import JsonObject

_QUESTION, _ANSWER, _NEXT = "zqvu", "zqva", "zqvn"


@dataclass(frozen=True)
class Markers:
    """What opens and closes the parts of an answer."""

    closing: str | None = None
    """Text of the token that ends an answer in the template; None if no EOS token does."""
    end: int = 0
    """Its index in the EOS set; the first one if the template ends with none."""
    after: str = ""
    """What stands between the end of an answer and the text of the next question."""
    tail: str = ""
    """What stands after the last answer."""


def find_markers(source: Source) -> Markers:
    """Return how answers end, as far as the template shows it."""
    question = [*source.turns, user(_QUESTION)]
    both = [*question, assistant(_ANSWER)]
    alone = source.prompt(both, open_turn=False) or ""
    longer = source.prompt([*both, user(_NEXT)], open_turn=False) or ""
    if _ANSWER not in alone or _ANSWER not in longer or _NEXT not in longer:
        return Markers()
    tail = alone[alone.rindex(_ANSWER) + len(_ANSWER) :]
    between = longer[longer.index(_ANSWER) + len(_ANSWER) : longer.rindex(_NEXT)]
    ends = {source.files.decode([end]): at for at, end in enumerate(source.files.ends)}
    found = [(between.index(text), text) for text in ends if text and text in between]
    if not found:
        found = [(tail.index(text), text) for text in ends if text and text in tail]
        if not found:
            source.note("the template ends answers with no token of the EOS set")
            return Markers(after=between, tail=tail)
        between = tail
    at, text = min(found)
    return Markers(text, ends[text], between[at + len(text) :], tail)


def written(
    source: Source,
    markers: Markers,
    answer: JsonObject,
    tools: Sequence[JsonObject] = (),
    question: str = "What is the weather in Oslo?",
) -> str | None:
    """Return the text that a model writes to give ``answer``; None where the template hides it."""
    asked = [*source.turns, user(question)]
    header = source.prompt(asked, tools)
    whole = source.prompt([*asked, answer], tools, open_turn=False)
    if header is None or whole is None or not whole.startswith(header):
        return None
    body = whole[len(header) :]
    if markers.closing is not None and markers.closing in body:
        return body[: body.rindex(markers.closing)]
    return body.removesuffix(markers.tail) if markers.tail else body


def call_form_known(source: Source, markers: Markers) -> bool:
    """Whether two calls and their arguments can be read out of what the template prints."""
    answer = assistant(
        "",
        tool_calls=[
            call("weather_get", {"city": "zqvo"}),
            call("time_now", {"city": "zqvr"}, 1),
        ],
    )
    text = written(source, markers, source.fitted_message(answer), (WEATHER, CLOCK)) or ""
    return all(part in text for part in ("weather_get", "zqvo", "time_now", "zqvr"))


def reasoning_known(source: Source, markers: Markers) -> bool:
    """Whether the last answer is printed with its reasoning and something that sets it apart."""
    if source.reasoning_key is None:
        return False
    answer = assistant(_ANSWER, **{source.reasoning_key: _QUESTION})
    text = written(source, markers, answer, question="How much is it?") or ""
    _, found, rest = text.partition(_QUESTION)
    return bool(found and _ANSWER in rest and rest.partition(_ANSWER)[0].strip())
