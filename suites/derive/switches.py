"""The switches of a chat template, found in the variables that it reads."""

from collections.abc import Iterator

from suites.derive.conversations import user
from suites.derive.source import Source
from suites.suite import JsonObject

#: What every renderer gives, so that it is no switch of this template.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception"}
_GIVEN |= {"strftime_now", "true", "false", "none"}
_MOST = 8
_EFFORTS = ("low", "high")
_DOCUMENTS = [
    {"title": "Trains", "text": "The train to Oslo leaves at 12:45."},
    {"title": "Boats", "text": "No boat leaves on Sunday."},
]


def switches(source: Source) -> Iterator[tuple[str, JsonObject]]:
    """Yield the name of each setting and its template options, where it changes a prompt."""
    if not source.has_template:
        return
    names = source.files.variables()
    found = 0
    for name in sorted(names - _GIVEN - set(source.files.templates.specials)):
        if name.endswith("_token"):
            continue
        for value in _values(name):
            if found < _MOST and _matters(source, {name: value}, value):
                found += 1
                yield f"{name.lower().replace('_', '-')}-{_word(value)}", {name: value}
    if "documents" in names and _matters(source, {"documents": _DOCUMENTS}, _DOCUMENTS):
        yield "documents", {"documents": _DOCUMENTS}


def _values(name: str) -> tuple[bool | str, ...]:
    if "date" in name or "time" in name:
        return ("26 Jul 2024",)
    if "effort" in name or "level" in name:
        return _EFFORTS
    return (True, False)


def _word(value: bool | str) -> str:
    words = {True: "on", False: "off"}
    return words[value] if isinstance(value, bool) else "".join(filter(str.isalnum, value)).lower()


def _matters(source: Source, options: JsonObject, value: object) -> bool:
    """Whether a setting changes a prompt, and is not just printed into it as Python's text."""
    messages = [*source.turns, user("a")]
    plain, asked = source.prompt(messages), source.prompt(messages, options=options)
    if plain is None or asked is None or plain == asked:
        return False
    return not isinstance(value, bool) or str(value) not in asked or str(value) in plain
