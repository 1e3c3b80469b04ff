"""Two texts side by side: where they part, with hidden characters made visible."""

import itertools
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from runner.stored.canonical import UNREADABLE

_BEFORE = 24
_AFTER = 40
#: Keys of the objects in which more than one aspect of an answer is compared.
_ASPECTS = frozenset(
    {
        "text",
        "finish_reason",
        "message",
        "output_ids",
        "prompt_ids",
        "output_tokens",
        "prompt_tokens",
    }
)


@dataclass(frozen=True)
class Part:
    """One side of a difference, cut to what matters."""

    before: str
    marked: str
    after: str

    def __str__(self) -> str:
        return f"{self.before}⟦{self.marked}⟧{self.after}"


@dataclass(frozen=True)
class Aspect:
    """One compared part that differs: what it is, where it parts, and both sides."""

    name: str
    """text, finish_reason, output_ids, prompt_ids or a message's field; empty for the whole."""
    unit: str
    """character or token."""
    at: int
    expected: Part
    seen: Part

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def visible(text: str) -> str:
    """Return ``text`` with all that a terminal hides spelt out, so that no two texts look equal.

    A backslash is doubled: else a line break and a literal ``\\n`` would both be ``\\n``.
    """
    return printable(text.replace("\\", "\\\\"))


def printable(text: str) -> str:
    """Return ``text`` with control, invisible, combining and foreign-space characters spelt out.

    What is spelt out already stays as it is.
    """
    return "".join(_printable(c) for c in text)


def _printable(char: str) -> str:
    if char == "\n":
        return "\\n"
    if char == "\t":
        return "\\t"
    if char == "\r":
        return "\\r"
    if char == " " or unicodedata.category(char)[0] not in "CMZ":
        return char
    return f"\\u{{{ord(char):04x}}}"


def parting(expected: Sequence[object], seen: Sequence[object]) -> int:
    """Return the index at which two sequences first differ; their length when they are equal."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(expected, seen, strict=False))
    return sum(1 for _ in pairs)


def text_parts(
    expected: str, seen: str, show: Callable[[str], str] = visible
) -> tuple[int, Part, Part]:
    """Return the first differing character's index, and both sides around it.

    The cut begins at the base of a combining character, so that the pair is seen whole.
    """
    at = parting(expected, seen)
    while at and any(unicodedata.combining(s[at]) for s in (expected, seen) if at < len(s)):
        at -= 1
    return at, _text_part(expected, at, seen, show), _text_part(seen, at, expected, show)


def _text_part(text: str, at: int, other: str, show: Callable[[str], str]) -> Part:
    tail = 0
    limit = min(len(text), len(other)) - at
    while tail < limit and text[len(text) - 1 - tail] == other[len(other) - 1 - tail]:
        tail += 1
    end = min(len(text) - tail, at + _AFTER)
    before = ("…" if at > _BEFORE else "") + show(text[max(0, at - _BEFORE) : at])
    after = show(text[end : end + _BEFORE]) + ("…" if end + _BEFORE < len(text) else "")
    return Part(before, show(text[at:end]), after)


def token_parts(expected: Sequence[int], seen: Sequence[int]) -> tuple[int, Part, Part]:
    """Return the first differing token's index, and both sides around it."""
    at = parting(expected, seen)
    return at, _token_part(expected, at), _token_part(seen, at)


def _token_part(ids: Sequence[int], at: int) -> Part:
    before = ("… " if at > 4 else "") + "".join(f"{i} " for i in ids[max(0, at - 4) : at])
    after = "".join(f" {i}" for i in ids[at + 1 : at + 7]) + (" …" if at + 7 < len(ids) else "")
    return Part(before, str(ids[at]) if at < len(ids) else "end", after)


def parted(expected: str | None, seen: str | None) -> list[Aspect]:
    """Return each differing part of a compared pair; none when a side is missing or both agree."""
    if expected is None or seen is None or expected == seen:
        return []
    left, right = _fields(expected), _fields(seen)
    if left is None or right is None:
        return [_aspect("", expected, seen)]
    if all(isinstance(side.get("message"), dict) for side in (left, right)):
        left, right = ({**side.pop("message"), **side} for side in (left, right))
    return [
        _aspect(printable(name), left.get(name), right.get(name))
        for name in dict.fromkeys([*left, *right])
        if left.get(name) != right.get(name)
    ]


def shown_difference(expected: str, seen: str) -> str:
    """Say in one line where two compared texts part; lists of ids are told by token.

    No text makes it raise: it is called from SQL, where an error would cost the whole run.
    """
    return "; ".join(
        f"{a.name} at {a.unit} {a.at} expected '{a.expected}', seen '{a.seen}'".lstrip()
        for a in parted(expected, seen)
    )


def _aspect(name: str, expected: Any, seen: Any) -> Aspect:
    left, right = _text(expected), _text(seen)
    ids, others = _as_ids(left), _as_ids(right)
    if ids is not None and others is not None:
        return Aspect(name, "token", *token_parts(ids, others))
    # JSON has doubled its backslashes itself.
    plain = isinstance(expected, str) or isinstance(seen, str)
    return Aspect(name, "character", *text_parts(left, right, visible if plain else printable))


def _fields(text: str) -> dict[str, Any] | None:
    """Take one of our own compared objects apart; a prompt that happens to be JSON stays a text."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except UNREADABLE:
        return None
    if not isinstance(found, dict) or not found or not found.keys() <= _ASPECTS:
        return None
    return found


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except UNREADABLE:
        return repr(type(value))


def _as_ids(text: str) -> list[int] | None:
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except UNREADABLE:
        return None
    ids = isinstance(found, list) and all(type(i) is int for i in found)
    return found if ids else None
