"""Pydantic's findings in words for people: which key, what is known, the nearest name, the cure."""

import difflib
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Mistake:
    """One mistake in a file."""

    key: KeyPath
    what: str
    known: str = ""
    fix: str = ""

    @classmethod
    def unknown(cls, key: KeyPath, kind: str, given: object, known: Sequence[str]) -> "Mistake":
        """Return the mistake of a name that nothing bears."""
        near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
        return cls(
            key,
            f"unknown {kind} {str(given)!r}",
            ", ".join(known) or f"no {kind} at all",
            f"did you mean {near[0]!r}?" if near else f"use a known {kind}",
        )

    def raised(self) -> PydanticCustomError:
        """Return the mistake as a pydantic error, its key relative to the model that raises it."""
        return PydanticCustomError(
            "mistake",
            "{what}",
            {"what": self.what, "key": self.key, "known": self.known, "fix": self.fix},
        )


def explain(
    error: ValidationError,
    model_type: type[BaseModel],
    present: Callable[[KeyPath], KeyPath],
    line: Callable[[KeyPath], int],
) -> Mistake:
    """Return the mistake that stands first in the file, among all that pydantic found.

    Args:
        error: what pydantic found.
        model_type: the model that was validated.
        present: cuts a location down to the keys which the file has.
        line: the line of a key.
    """
    # A list whose items are wrong is also reported as too short: only an empty one is.
    details = [
        d for d in error.errors(include_url=False) if d["type"] != "too_short" or not d["input"]
    ]
    # A mistyped key is reported as unknown and its right name as missing: the first says more.
    details.sort(key=lambda d: d["type"] == "missing")
    found = [_mistake(d, model_type, present) for d in details]
    unknown = {present(d["loc"])[:-1] for d in details if d["type"] == "extra_forbidden"}
    telling = [
        mistake
        for mistake, d in zip(found, details, strict=True)
        if d["type"] != "missing" or present(d["loc"]) not in unknown
    ]
    first = min(telling, key=lambda m: line(present(m.key)))
    more = len({m.key for m in found}) - 1
    if more:
        return Mistake(
            first.key, first.what, first.known, _and(first.fix, f"({more} more after it)")
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
        return Mistake.unknown(key, str(_name(key)), detail["input"], choices)
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


def model_at(model_type: type[BaseModel], key: KeyPath) -> type[BaseModel] | None:
    """Return the model whose keys stand directly beneath ``key``; None where there is none."""
    current: Any = model_type
    for part in key:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            fields = {f.alias or name: f.annotation for name, f in current.model_fields.items()}
            current = _inner(fields.get(part))
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def owner_keys(model: type[BaseModel]) -> list[str]:
    """Return a model's keys as they are written in a file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _inner(annotation: Any) -> Any:
    """Return the model inside a tuple, list, dict, optional or annotated type."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _inner(arguments[0])
    if origin is dict:
        return _inner(arguments[1])
    if origin in (Union, types.UnionType, tuple, list):
        inner = [_inner(a) for a in arguments if a not in (type(None), ...)]
        models = [i for i in inner if isinstance(i, type) and issubclass(i, BaseModel)]
        return models[0] if models else None
    return annotation


def _name(key: KeyPath) -> str:
    """Return the last name on a key path: that of the list, for one of its items."""
    names = [part for part in key if isinstance(part, str)]
    return names[-1] if names else "the file"


def _and(first: str, second: str) -> str:
    return f"{first} {second}" if first else second
