"""Dataclasses as JSON and back. What another process sent is checked against the declared types.

Supported types: ``Any``, ``bool``, ``int``, ``float``, ``str``, ``Literal``, ``X | None``,
``list[X]``, ``tuple[X, Y]``, ``dict[str, X]`` and dataclasses of these.
"""

import functools
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

#: Metadata of a dataclass field that does not travel as JSON.
BESIDE = {"beside": True}


class Malformed(ValueError):
    """A JSON value does not have the declared type."""


def to_json(value: Any) -> Any:
    """Return ``value`` with its dataclasses as objects.

    Fields that are None are left out, so their default must be None.
    """
    if is_dataclass(value):
        shown = ((f.name, getattr(value, f.name)) for f in _travelling(type(value)))
        return {name: to_json(found) for name, found in shown if found is not None}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(kind: type[T], value: Any) -> T:
    """Return ``value`` as the dataclass ``kind``.

    Raises:
        Malformed: a value has another type, a field is missing or unknown. The message names it.
    """
    found: T = _read(kind, value, kind.__name__)
    return found


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, of = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _object(kind, value, where)
    if origin in _READERS:
        return _READERS[origin](of, value, where)
    if origin in (Union, types.UnionType):
        (inner,) = (choice for choice in of if choice is not types.NoneType)
        return None if value is None else _read(inner, value, where)
    if kind is Any or type(value) in _PLAIN.get(kind, ()):
        return value
    if origin is Literal and any(type(value) is type(one) and value == one for one in of):
        return value
    raise _wrong(kind, value, where)


def _list(of: tuple[Any, ...], value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(list, value, where)
    (inner,) = of
    if inner in _PLAIN and all(type(item) in _PLAIN[inner] for item in value):
        return value
    return [_read(inner, item, f"{where}[{place}]") for place, item in enumerate(value)]


def _tuple(of: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) != len(of):
        raise _wrong(f"list of {len(of)}", value, where)
    pairs = enumerate(zip(of, value, strict=True))
    return tuple(_read(inner, item, f"{where}[{place}]") for place, (inner, item) in pairs)


def _mapping(of: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(dict, value, where)
    return {key: _read(of[1], item, f"{where}.{key}") for key, item in value.items()}


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(dict, value, where)
    hints, known = _hints(kind), _travelling(kind)
    if unknown := sorted(value.keys() - {f.name for f in known}):
        raise Malformed(f"{where}: unknown field {unknown[0]!r}"[:200])
    needed = (f.name for f in known if f.default is MISSING and f.default_factory is MISSING)
    for name in needed:
        if name not in value:
            raise Malformed(f"{where}: field {name!r} is missing")
    return kind(**{name: _read(hints[name], v, f"{where}.{name}") for name, v in value.items()})


def _travelling(kind: Any) -> tuple[Any, ...]:
    return tuple(f for f in fields(kind) if not f.metadata.get("beside"))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _wrong(kind: Any, value: Any, where: str) -> Malformed:
    expected = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return Malformed(f"{where}: expected {expected}, found {type(value).__name__} {value!r}"[:200])


_PLAIN: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    float: (float, int),
    str: (str,),
}
_READERS: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    list: _list,
    tuple: _tuple,
    dict: _mapping,
}
