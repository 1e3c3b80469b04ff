"""Write a suite as YAML that people can read and edit, and that loads to the same suite."""

import re
import textwrap
from pathlib import Path
from typing import Any

from suites.golden_fields import escaped, folded
from suites.suite import Suite

_WIDTH = 110
#: Text that needs no quotes anywhere in YAML, not even for readers of an older version of it.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}

_HEADER = """\
Made by fleetqual from a model's own files; nothing in it was written by hand. It is yours now:
delete cases, change them, add your own. Golden answers (prompts, token ids, texts, messages) were
computed from the files by libraries that are no engine under test. They are truth for every model
that has the texts named in `golden_for`. After a change, compute them again:
    python -m suites.golden THIS_FILE --model FOLDER
A new case of logits, state, sampling or chain needs its reference: the next run makes it."""


def write_suite(suite: Suite, path: Path) -> None:
    """Write ``suite`` to ``path``; loading the file gives an equal suite."""
    path.write_text(suite_text(suite), encoding="utf-8")


def suite_text(suite: Suite) -> str:
    """Return the YAML of a suite, its cases in their order with a line before each stage."""
    lines = [f"# {line}" for line in _HEADER.splitlines()]
    head = suite.model_dump(mode="json", exclude={"cases"}, exclude_defaults=True)
    lines += _mapping(head, 0)
    if suite.cases:
        lines += ["", "cases:"]
    stage = None
    for case in suite.cases:
        if case.stage != stage:
            stage = case.stage
            lines += ["", f"# ---- {stage} ".ljust(100, "-")]
        asked = case.model_dump(mode="json", exclude_defaults=True)
        golden = asked.pop("golden", None)
        body = _mapping(asked, 2)
        lines += ["", "- " + body[0].lstrip(), *body[1:]]
        if golden:
            # In lines of their own: the golden program writes single fields again.
            lines += ["  golden:", *_mapping(golden, 4)]
    return "\n".join(lines) + "\n"


def _mapping(value: dict[str, Any], indent: int) -> list[str]:
    lines: list[str] = []
    for name, item in value.items():
        lines += _entry(f"{' ' * indent}{_scalar(name)}:", item, indent + 2)
    return lines


def _sequence(value: list[Any], indent: int) -> list[str]:
    lines: list[str] = []
    for item in value:
        start = " " * indent + "-"
        if isinstance(item, dict) and item and not _fits(start, item):
            body = _mapping(item, indent + 2)
            lines += [start + " " + body[0].lstrip(), *body[1:]]
        else:
            lines += _entry(start, item, indent + 2)
    return lines


def _entry(start: str, value: Any, indent: int) -> list[str]:
    """Return the lines of ``value`` after ``start``: on its line if it fits, else below it."""
    if _fits(start, value):
        return [f"{start} {_flow(value)}"]
    if isinstance(value, dict):
        return [start, *_mapping(value, indent)]
    if isinstance(value, list):
        if all(type(item) is int for item in value):
            # A long name has its line alone: it must not be cut.
            alone = len(start) > _WIDTH // 2
            margin = " " * indent
            lines = textwrap.wrap(
                _flow(value),
                _WIDTH,
                initial_indent=margin if alone else start + " ",
                subsequent_indent=margin,
            )
            return [start, *lines] if alone else lines
        return [start, *_sequence(value, indent)]
    pieces = [
        piece
        for line in re.findall(r"[^\n]+\n*|\n+", str(value))
        for piece in folded(line, _WIDTH - indent - 2)
    ]
    margin = " " * indent
    return [f'{start} "\\', *(f"{margin}{piece}\\" for piece in pieces), f'{margin}"']


def _fits(start: str, value: Any) -> bool:
    """Whether a value stands on the line after ``start``; text with lines gets lines of its own."""
    if isinstance(value, list) and any(isinstance(item, dict) and item for item in value):
        return False
    if isinstance(value, str) and "\n" in value[:-1] and len(value) > 60:
        return False
    return (
        isinstance(value, bool | int | float | None)
        or (len(start) + 1 + len(_flow(value)) <= _WIDTH)
        or (value in ({}, [], ""))
    )


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(escaped, text)) + '"'
