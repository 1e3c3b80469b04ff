"""One YAML file: its value, and the line of every key for messages.

The file is read as YAML 1.2 reads it (``no`` is text, ``1e-4`` is a number, a date is text), with
PyYAML's safe loader. Its size, its depth and its number of values are limited.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from suites.errors import UserError
from suites.mistakes import KeyPath, Mistake

MAX_BYTES = 8 << 20
MAX_VALUES = 400_000
MAX_DEPTH = 40

#: The safe loader with the scalar types of YAML 1.2's core schema.
_Yaml12: Any = type("_Yaml12", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})

for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _starts = [c if c != "\0" else "" for c in _first]
    _Yaml12.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _starts
    )


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


_Yaml12.add_constructor("tag:yaml.org,2002:int", _integer)


_PLAIN_TAGS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class Document:
    """One YAML file: its value, and the line of each key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[KeyPath, int] = {(): 1}
        text = _read(path)
        try:
            loader = _Yaml12(text)
        except yaml.reader.ReaderError as error:
            raise UserError(
                f"not valid YAML: {error.reason}: {error.character!r}",
                where=f"{path}:{text.count(chr(10), 0, error.position) + 1}",
                fix="write control characters as escapes inside double quotes",
            ) from error
        try:
            root = loader.get_single_node()
            self._budget = MAX_VALUES
            self.value = None if root is None else self._value(loader, root, (), ())
        except yaml.YAMLError as error:
            raise self._syntax_error(error) from error
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"not readable as YAML: {error}", where=str(path), fix="check the file's syntax"
            ) from error
        finally:
            loader.dispose()

    def error(self, mistake: Mistake) -> UserError:
        """Return a mistake as the user's error, with its line in this file."""
        return UserError(
            mistake.what, where=self.where(mistake.key), known=mistake.known, fix=mistake.fix
        )

    def where(self, key: KeyPath) -> str:
        """Return ``file:line: key.path``; the line is that of the nearest key in the file."""
        return f"{self.path}:{self.line(key)}: {dotted(key)}".removesuffix(": ")

    def present(self, key: KeyPath) -> KeyPath:
        """Return ``key`` without the parts that the file does not have (pydantic's union tags)."""
        found: KeyPath = ()
        for part in key:
            if (*found, part) in self.lines:
                found = (*found, part)
        return found

    def line(self, key: KeyPath) -> int:
        """Return the line of ``key``, or of the nearest key around it."""
        while key not in self.lines:
            key = key[:-1]
        return self.lines[key]

    def _value(
        self, loader: Any, node: yaml.Node, key: KeyPath, around: tuple[yaml.Node, ...]
    ) -> Any:
        self._budget -= 1
        if self._budget < 0 or len(around) > MAX_DEPTH or any(node is outer for outer in around):
            raise UserError(
                f"too large once its anchors are expanded (over {MAX_VALUES} values, "
                f"{MAX_DEPTH} levels, or an anchor within itself)",
                where=self.where(key),
                fix="write the values out, or split the file",
            )
        self.lines.setdefault(key, node.start_mark.line + 1)
        inside = (*around, node)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise UserError(
                f"the YAML tag {node.tag!r} is not supported",
                where=self.where(key),
                fix="write plain lists and mappings",
            )
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(loader, item, (*key, index), inside)
                for index, item in enumerate(node.value)
            ]
        if isinstance(node, yaml.MappingNode):
            return {
                name: self._value(loader, value, (*key, name), inside)
                for name, value in self._pairs(loader, node, key)
            }
        value = loader.construct_object(node)
        self._is_storable(value, key)
        return value

    def _is_storable(self, value: Any, key: KeyPath) -> None:
        """Refuse scalars that JSON or UTF-8 cannot express: digests are computed over both."""
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(
                f"{value} is not a finite number",
                where=self.where(key),
                fix="write a number, or remove the key",
            )
        if isinstance(value, str) and not _is_unicode(value):
            raise UserError(
                "the text has half of a surrogate pair, which is not a character",
                where=self.where(key),
                fix="write the character itself, or its escape with eight digits: \\U0001F600",
            )

    def _pairs(
        self, loader: Any, node: yaml.MappingNode, key: KeyPath
    ) -> Iterator[tuple[str, yaml.Node]]:
        """Yield a mapping's pairs, merged ones first; refuse a key that is given twice."""
        own: dict[str, int] = {}
        for name_node, _ in node.value:
            if name_node.tag == "tag:yaml.org,2002:merge":
                continue
            name, line = _key_name(self, name_node, key), name_node.start_mark.line + 1
            if name in own:
                raise UserError(
                    f"the key {name!r} is given twice (first in line {own[name]})",
                    where=f"{self.path}:{line}: {dotted((*key, name))}",
                    fix="keep one of them",
                )
            own[name] = line
        loader.flatten_mapping(node)
        merged: dict[str, yaml.Node] = {}
        for name_node, value in node.value:
            name = _key_name(self, name_node, key)
            merged[name] = value
            self.lines[(*key, name)] = name_node.start_mark.line + 1
        yield from merged.items()

    def _syntax_error(self, error: yaml.YAMLError) -> UserError:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        return UserError(
            f"not valid YAML: {what}",
            where=f"{self.path}:{mark.line + 1}" if mark else str(self.path),
            fix="check indentation, quotes and brackets at that line",
        )


def dotted(key: KeyPath) -> str:
    """Write a key path as ``engines[1].options.n_ctx``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def _key_name(document: Document, node: yaml.Node, key: KeyPath) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise UserError(
            "a key must be plain text",
            where=f"{document.path}:{node.start_mark.line + 1}: {dotted(key)}".removesuffix(": "),
        )
    name = str(node.value)
    if not _is_unicode(name):
        where = f"{document.path}:{node.start_mark.line + 1}: {dotted(key)}".removesuffix(": ")
        raise UserError("a key has half of a surrogate pair", where=where)
    return name


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"the file is larger than {MAX_BYTES >> 20} MiB",
                where=str(path),
                fix="split the file",
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=str(path), fix="check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the file cannot be read: {error}", where=str(path)) from error
