"""Cases of the stage ``stop``: the EOS set, limits, stop strings, and tokens that are no end."""

from collections.abc import Iterator

from suites.derive.conversations import USER_TEXTS, user
from suites.derive.markers import Markers
from suites.derive.scripts import Forced, forced, piece
from suites.derive.source import Source
from suites.derive.vocabulary import looks_like_an_end
from suites.suite import Case, Golden

_TEXT = "The river leaves the hill at dawn,\nit carries gold and stone along the water."
_SHORT = "The moon is white."
_MOST_ENDS, _MOST_OTHERS = 6, 5


def stop_cases(source: Source, markers: Markers) -> Iterator[Case]:
    """Yield how answers end, and what must not end them."""
    if not source.files.ends:
        return
    yield from _ends(source, markers)
    yield from _limits(source, markers)
    yield from _strings(source, markers)
    yield from _not_ends(source, markers)


def _case(
    name: str,
    tag: str,
    found: Forced,
    text: str,
    *,
    reason: str = "stop",
    stop: tuple[str, ...] = (),
    limit: int | None = None,
) -> Case:
    return Case(
        id=f"stop/{name}",
        stage="stop",
        tags=(tag,),
        messages=(user(USER_TEXTS[1]),),
        script=found.script,
        stop=stop,
        max_tokens=limit or max(64, len(found.ids) + 8),
        golden=Golden.model_validate(
            {"script_ids": found.ids, "text": text, "finish_reason": reason}
        ),
    )


def _ends(source: Source, markers: Markers) -> Iterator[Case]:
    follows = markers.after + USER_TEXTS[0]
    for at in range(min(len(source.files.ends), _MOST_ENDS)):
        this = Markers(end=at)
        if found := forced(source, this, _SHORT, after=follows):
            yield _case(f"end-{at + 1}", "end", found, found.seen)
    if found := forced(source, markers, "", after=_SHORT):
        yield _case("end-first", "end", found, "")
    if found := forced(source, markers, "One.\n\n", after=_SHORT):
        yield _case("end-after-line-feeds", "end", found, found.seen)
    if found := forced(source, markers, _SHORT):
        yield _case("end-as-last-token", "end", found, found.seen, limit=len(found.ids))
        yield _case(
            "limit-before-end",
            "limit",
            found,
            found.seen,
            reason="length",
            limit=len(found.own),
        )


def _limits(source: Source, markers: Markers) -> Iterator[Case]:
    if found := forced(source, markers, _TEXT, ends=False):
        for name, limit in (("limit-of-one", 1), ("limit", 6)):
            if (text := piece(source, found, limit)) is not None:
                yield _case(name, "limit", found, text, reason="length", limit=limit)
    # A character of several tokens is complete with the last of them.
    for name, text in (
        ("limit-after-emoji", "Go \U0001f680"),
        ("limit-after-ideograph", "Go to 京"),
    ):
        found = forced(source, markers, text + " now and turn", ends=False)
        limit = len(source.files.continuation(text))
        if found is not None and piece(source, found, limit) == text:
            yield _case(name, "limit", found, text, reason="length", limit=limit)


def _strings(source: Source, markers: Markers) -> Iterator[Case]:
    found = forced(source, markers, _TEXT)
    if found is None:
        return
    inside, over = _inside(source, found), _over(source, found)
    chosen = {
        "string-in-token": (inside,) if inside else (),
        "string-over-tokens": (over,) if over else (),
        "string-line-feed": (",\n",),
        "string-first": ("The river",),
        "string-earliest": ("stone", "gold"),
        "string-at-the-end": ("water.",),
        "string-never": ("THE RIVER", "gold and gold"),
    }
    for name, stop in chosen.items():
        if stop:
            yield _case(name, "strings", found, cut(_TEXT, stop), stop=stop)
    for name, text, stop in (
        ("string-begun-at-the-end", "Wait for the STO", ("STOP",)),
        ("string-emoji", "Go \U0001f680 now", ("\U0001f680",)),
        ("string-only-in-the-prompt", "The hill.", ("sentence",)),
    ):
        if short := forced(source, markers, text):
            yield _case(name, "strings", short, cut(text, stop), stop=stop)


def _not_ends(source: Source, markers: Markers) -> Iterator[Case]:
    """Yield control tokens that are no member of the EOS set: they end nothing."""
    ends = set(source.files.ends)
    others = [t for t in source.specials if t["id"] not in ends]
    others.sort(key=lambda token: not looks_like_an_end(token["content"]))
    for at, token in enumerate(others[:_MOST_OTHERS]):
        if found := forced(source, markers, f"One{token['content']}two."):
            yield _case(f"not-an-end-{at + 1}", "not-an-end", found, found.seen)


def cut(text: str, stop: tuple[str, ...]) -> str:
    """Return ``text`` up to the stop string that comes first in it."""
    at = [text.index(string) for string in stop if string in text]
    return text[: min(at)] if at else text


def _inside(source: Source, found: Forced) -> str | None:
    """Return letters from the middle of a token, where they come first in the text."""
    for at in range(1, len(found.own)):
        own = source.files.visible([found.own[at]]).strip()
        middle = own[1:-1]
        if len(own) > 4 and own.isalpha() and _TEXT.find(middle) == _TEXT.find(own) + 1:
            return middle
    return None


def _over(source: Source, found: Forced) -> str | None:
    """Return the end of a token and the beginning of the next one."""
    for at in range(4, len(found.own)):
        before, after = piece(source, found, at), piece(source, found, at + 1)
        if before and after and len(after) - len(before) > 2 and before[-2:].strip():
            string = after[len(before) - 2 : len(before) + 2]
            if _TEXT.count(string) == 1:
                return string
    return None
