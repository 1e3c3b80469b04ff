"""Write the computed golden fields into the lines of a suite file; other lines do not change."""

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from suites.errors import UserError

COMPUTED = ("prompt_text", "prompt_ids", "script_ids")
_WIDTH = 100


def with_fields(source: str, answers: list[dict[str, Any]], path: Path) -> str:
    """Return the text of a suite file with the computed fields of each of its cases.

    Args:
        source: text of a valid suite file.
        answers: the computed fields of each case, in the file's order; empty for no fields.
        path: the file's name, for errors.

    Raises:
        UserError: a case that gets fields, or its golden, is written in flow style.
    """
    nodes = _field(yaml.compose(source, Loader=yaml.SafeLoader), "cases").value
    lines = source.splitlines(keepends=True)
    starts = [node.start_mark.line for node in nodes] + [len(lines)]
    for at in reversed(range(len(nodes))):
        if answers[at]:
            first, last = starts[at], _end(lines, starts[at + 1], nodes[at].start_mark.column)
            lines[first:last] = _with_answers(lines[:last], nodes[at], answers[at], path)[first:]
    return "".join(lines)


def _with_answers(
    lines: list[str], node: yaml.MappingNode, answers: dict[str, Any], path: Path
) -> list[str]:
    """Return ``lines``, which end with a case, with the computed fields of that case.

    Ranges are computed from the lines of keys: an alias has the position of its anchor.
    """
    golden = _field(node, "golden")
    for part in (node, golden):
        if part is not None and part.flow_style:
            raise UserError(
                "computed fields cannot be written into a case or a golden in flow style",
                where=f"{path}:{part.start_mark.line + 1}",
                fix="write it as indented lines",
            )
    if golden is None:
        indent = node.start_mark.column
        return [*lines, " " * indent + "golden:\n", *_written(answers, indent + 2)]
    end, indent = _next_key(node, "golden", len(lines)), golden.start_mark.column
    kept: list[str] = []
    for key, _ in golden.value:
        first, last = key.start_mark.line, _next_key(golden, key.value, end)
        if key.value in COMPUTED:
            first = _end(lines, last, indent + 1)
        kept += lines[first:last]
    return [*lines[: golden.start_mark.line], *kept, *_written(answers, indent), *lines[end:]]


def _end(lines: list[str], stop: int, indent: int) -> int:
    """Return the line after the last line before ``stop`` that is neither blank nor a comment.

    Blank lines and comments belong to the next case, unless indented by ``indent`` or more.
    """
    while stop:
        text = lines[stop - 1].lstrip()
        if text and not (text.startswith("#") and len(lines[stop - 1]) - len(text) < indent):
            break
        stop -= 1
    return stop


def _next_key(node: yaml.MappingNode, name: str, end: int) -> int:
    """Return the line of the key that follows ``name`` in a mapping, or ``end``."""
    lines = [key.start_mark.line for key, _ in node.value]
    at = [key.value for key, _ in node.value].index(name)
    return int(lines[at + 1]) if at + 1 < len(lines) else end


def _field(node: yaml.Node | None, name: str) -> Any:
    """Return the value node of a mapping's key; None where there is none."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _written(answers: dict[str, Any], indent: int) -> list[str]:
    lines: list[str] = []
    for name, value in answers.items():
        if isinstance(value, str):
            lines += [
                f'{name}: "\\',
                *(f"  {part}\\" for part in _quoted(value, indent + 2)),
                '  "',
            ]
        else:
            lines += textwrap.wrap(
                f"{name}: {value}", _WIDTH - indent, subsequent_indent="  ", break_long_words=False
            )
    return [" " * indent + line + "\n" for line in lines]


def _quoted(text: str, indent: int) -> Iterator[str]:
    """Yield the pieces of a double-quoted scalar: one for each turn and line, none too long."""
    for turn in re.split(r"(?=<\|role\|>)", text):
        for line in re.findall(r"[^\n]+\n*|\n+", turn):
            yield from folded(line, _WIDTH - indent - 2)


def folded(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a double-quoted scalar, cut at spaces; each is to end with a backslash."""
    piece = ""
    for word in re.split(r"(?<= )", text):
        written = "".join(map(escaped, word))
        if piece and len(piece) + len(written) > width:
            yield _shielded(piece)
            piece = ""
        piece += written
    if piece:
        yield _shielded(piece)


def _shielded(piece: str) -> str:
    """Keep a leading space, which a continued line would lose."""
    return "\\" + piece if piece.startswith(" ") else piece


_NAMED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(character: str) -> str:
    """Return a character; as an escape if it is invisible or looks like another one."""
    if character in _NAMED:
        return _NAMED[character]
    seen = character.isprintable() and unicodedata.is_normalized("NFKC", character)
    if seen and not "\u0300" <= character <= "\u036f" and not "\ufe00" <= character <= "\ufe0f":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
