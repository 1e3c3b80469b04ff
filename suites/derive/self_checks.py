"""What a template's prompts say about themselves, without any truth beside them."""

from collections.abc import Iterator

from suites.derive.conversations import assistant, plain_shapes, tool_shapes, user
from suites.derive.markers import Markers
from suites.derive.source import Source
from suites.derive.vocabulary import added_tokens


def self_checks(source: Source, markers: Markers) -> Iterator[str]:
    """Yield findings on the template; each is a property of the model's own files."""
    if not source.has_template:
        yield "the model has no chat template"
        return
    yield from _prefixes(source)
    yield from _texts(source)
    yield from _balance(source, markers)


def _prefixes(source: Source) -> Iterator[str]:
    """The prompt of a later turn begins with that of an earlier one, or a cache is of no use."""
    turns = [*source.turns, user("zqv1"), assistant("zqv2"), user("zqv3"), assistant("zqv4")]
    last = len(source.turns) + 2
    first = source.prompt(turns[: last - 1])
    second = source.prompt([*turns[: last + 1]])
    if first is None or second is None:
        return
    if not second.startswith(first):
        yield "the prompt of a later turn does not begin with the prompt of the turn before it"


def _texts(source: Source) -> Iterator[str]:
    """Each text of the user is in the prompt, once and unchanged."""
    text = 'zqv <b>&amp; "é" {{ x }} 東京'
    prompt = source.prompt([user(text), assistant("yes"), user("zqw")]) or ""
    if prompt and prompt.count(text) != 1:
        yield f"a text of the user is in the prompt {prompt.count(text)} times, as it was written"
    spaced = source.prompt([user(" zqv \n")]) or ""
    if spaced and " zqv \n" not in spaced:
        yield "the template trims the texts of users"


def _balance(source: Source, markers: Markers) -> Iterator[str]:
    """What opens is closed: markup tokens in pairs."""
    named = set(source.files.templates.specials.values())
    texts = {token["content"] for token in added_tokens(source.files)} - named
    pairs = [(t, f"</{t[1:]}") for t in texts if t.startswith("<") and f"</{t[1:]}" in texts]
    for shape in (*plain_shapes(), *map(source.fitted, tool_shapes())):
        prompt = source.prompt(shape.messages, shape.tools, open_turn=False) or ""
        for opening, closing in sorted(pairs):
            if prompt.count(opening) != prompt.count(closing):
                yield f"{shape.name}: {opening} is not closed as often as it is opened"
                return
