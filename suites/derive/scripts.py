"""Outputs that are forced through an engine, and what users must see of them."""

from dataclasses import dataclass

from suites.derive.markers import Markers
from suites.derive.source import Source
from suites.suite import Script


@dataclass(frozen=True)
class Forced:
    """A script, its ids, and its text as users see it."""

    script: Script
    ids: tuple[int, ...]
    own: tuple[int, ...]
    """The ids of the text alone, without an end and what follows."""
    seen: str


def forced(
    source: Source, markers: Markers, text: str, *, ends: bool = True, after: str = ""
) -> Forced | None:
    """Return ``text`` as a script; None where its tokens do not give back that very text.

    Some decoders drop a first space or bring characters into another form. What users see is then
    a matter of where the decoding begins, and no engine is right or wrong.
    """
    files = source.files
    script = Script(text=text, eos=markers.end if ends and files.ends else None, after=after)
    own = files.continuation(text)
    before = files.encode("\n", add_special=False)
    if files.decode([*before, *own]) != files.decode(before) + text:
        return None
    seen = files.visible(own)
    if not _has_specials(source, own) and seen != text:
        return None
    ids = tuple(files.script_ids(script))
    return Forced(script, ids, tuple(own), seen)


def piece(source: Source, found: Forced, tokens: int) -> str | None:
    """Return the text of the first ``tokens`` ids; None where they end inside a character."""
    text = source.files.visible(found.own[:tokens])
    return text if "\ufffd" not in text and found.seen.startswith(text) else None


def _has_specials(source: Source, ids: list[int]) -> bool:
    return bool(source.special_ids & set(ids))
