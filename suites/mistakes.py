"""Mistakes in a file, in plain words: which key, what is known, the nearest name, the fix."""

import difflib
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

KeyPath = tuple[str | int, ...]

#: Pydantic's error types for a wrong shape → the shape in the words of YAML.
_SHAPES = {
    "tuple_type": "list",
    "list_type": "list",
    "dict_type": "mapping",
    "model_type": "mapping",
}


@dataclass(frozen=True)
class Mistake:
    """One mistake in a file."""

    key: KeyPath
    what: str
    known: str = ""
    fix: str = ""

    @classmethod
    def unknown(cls, key: KeyPath, kind: str, given: object, known: Sequence[str]) -> "Mistake":
        """Return the mistake of an unknown name, with the nearest known one."""
        near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
        return cls(
            key,
            f"unknown {kind} {str(given)!r}",
            ", ".join(known) or f"no {kind}",
            f"did you mean {near[0]!r}?" if near else f"use a known {kind}",
        )

    def pydantic_error(self) -> PydanticCustomError:
        """Return the mistake as a pydantic error, its key relative to the model that raises it."""
        return PydanticCustomError(
            "mistake",
            "{what}",
            {"what": self.what, "key": self.key, "known": self.known, "fix": self.fix},
        )


def first_mistake(
    error: ValidationError,
    model_type: type[BaseModel],
    present: Callable[[KeyPath], KeyPath],
    line: Callable[[KeyPath], int],
) -> Mistake:
    """Return the mistake with the lowest line among all that pydantic found.

    Args:
        error: pydantic's error.
        model_type: the model that was validated.
        present: reduces a location to the keys that the file has.
        line: the line of a key.
    """
    # Pydantic also reports a list with wrong items as too short; only an empty one is.
    details = [
        d for d in error.errors(include_url=False) if d["type"] != "too_short" or not d["input"]
    ]
    # For a mistyped key pydantic also reports the right key as missing; the first says more.
    details.sort(key=lambda d: d["type"] == "missing")
    found = [_mistake(d, model_type, present) for d in details]
    unknown = {present(d["loc"])[:-1] for d in details if d["type"] == "extra_forbidden"}
    useful = [
        mistake
        for mistake, d in zip(found, details, strict=True)
        if d["type"] != "missing" or present(d["loc"]) not in unknown
    ]
    first = min(useful, key=lambda m: line(present(m.key)))
    more = len({m.key for m in found}) - 1
    if more:
        return Mistake(
            first.key,
            first.what,
            first.known,
            _and(first.fix, f"({more} more mistake{'s' if more > 1 else ''} in this file)"),
        )
    return first


def _mistake(
    detail: ErrorDetails, model_type: type[BaseModel], present: Callable[[KeyPath], KeyPath]
) -> Mistake:
    location, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    key = present(location)
    if kind == "mistake":
        return Mistake((*key, *context["key"]), context["what"], context["known"], context["fix"])
    if kind == "extra_forbidden":
        owner = model_at(model_type, key[:-1])
        return Mistake.unknown(key, "key", key[-1], owner_keys(owner) if owner else [])
    if kind == "missing":
        owner = model_at(model_type, key)
        return Mistake(
            key,
            f"the key {location[-1]!r} is missing",
            ", ".join(owner_keys(owner)) if owner else "",
            f"add `{location[-1]}:`",
        )
    if kind == "literal_error":
        choices = [c.strip("'") for c in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return Mistake.unknown(key, _kind(key, location), detail["input"], choices)
    if kind in _SHAPES:
        owner = model_at(model_type, key) if kind == "model_type" else None
        return _misshapen(key, _SHAPES[kind], detail["input"], owner)
    if kind == "string_type" and isinstance(detail["input"], (int, float)):
        return Mistake(
            key,
            f"{_name(key)} must be text, not the number {detail['input']}",
            fix=f'write it in quotes: "{detail["input"]}"',
        )
    if kind == "value_error":
        return Mistake(key, str(context["error"]))
    if kind == "too_short":
        return Mistake(key, f"{_name(key)} is empty", fix="name at least one")
    return Mistake(key, f"{_name(key)}: {detail['msg'][0].lower()}{detail['msg'][1:]}")


def _misshapen(key: KeyPath, wanted: str, given: object, owner: type[BaseModel] | None) -> Mistake:
    """Return the mistake of a value that must be a list or a mapping and is not."""
    name, item = _name(key), bool(key) and isinstance(key[-1], int)
    what = f"{f'an item of {name}' if item else name} must be a {wanted}"
    word = given if isinstance(given, str) and given else None
    if wanted == "list":
        fix = f"write `{name}: [{word}]`" if word else "begin each item with `- `"
    else:
        fix = "write `key: value` pairs"
    if given is None:
        fix += ", or remove the key"
    fields = owner.model_fields.items() if owner else ()
    needed = [field.alias or own for own, field in fields if field.is_required()]
    if item and word and needed:
        fix = f"write `- {needed[0]}: {word}`"
    return Mistake(key, what, ", ".join(owner_keys(owner)) if owner else "", fix)


def model_at(model_type: type[BaseModel], key: KeyPath) -> type[BaseModel] | None:
    """Return the model whose keys are directly below ``key``; None if there is none."""
    current: Any = model_type
    for part in key:
        if typing.get_origin(current) is dict:
            # This part is a name that the user chose.
            current = _inner(typing.get_args(current)[1])
        elif isinstance(part, str) and _is_model(current):
            fields = {f.alias or name: f.annotation for name, f in current.model_fields.items()}
            current = _inner(fields.get(part))
    return current if _is_model(current) else None


def owner_keys(model: type[BaseModel]) -> list[str]:
    """Return a model's keys as a file has them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _inner(annotation: Any) -> Any:
    """Return the model, or the dict, inside a tuple, list, optional or annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _inner(arguments[0])
    if origin in (Union, types.UnionType, tuple, list):
        inner = [_inner(a) for a in arguments if a not in (type(None), ...)]
        return next((i for i in inner if _is_model(i) or typing.get_origin(i) is dict), None)
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _kind(key: KeyPath, location: KeyPath) -> str:
    """Return the word for a name from a fixed list: the last key."""
    if location and location[-1] == "[key]":
        return "key"
    return str(key[-1]) if key and isinstance(key[-1], str) else "value"


def _name(key: KeyPath) -> str:
    """Return the last name on a key path; for an item, the name of its list."""
    names = [part for part in key if isinstance(part, str)]
    return names[-1] if names else "the file"


def _and(first: str, second: str) -> str:
    return f"{first} {second}" if first else second
