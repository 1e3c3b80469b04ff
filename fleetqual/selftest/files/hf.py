"""Copies of a Hugging Face folder with one change: in the template, in JSON, or in tensors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fleetqual.selftest.files.tensors import (
    EditContext,
    edited,
    edits_of,
    refuse_edits_without_effect,
)
from fleetqual.selftest.injections import HfInjection
from suites.errors import UserError

_PARTS = ("*.json", "*.jinja", "*.safetensors")
_TEMPLATE = "chat_template.jinja"


def faulty_folder(source: Path, target: Path, injection: HfInjection) -> Path:
    """Copy a model folder with one fault; other files keep their bytes.

    Raises:
        UserError: the fault names something that the folder does not have, or changes nothing.
    """
    target.mkdir(parents=True)
    for pattern in _PARTS:
        for path in source.glob(pattern):
            shutil.copy(path, target)
    _edit_template(target / _TEMPLATE, injection)
    for name, changes in _json_changes(injection).items():
        path = target / name
        if not path.is_file():
            raise UserError(f"there is no {name} to edit", where=str(source))
        body = json.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            before = json.dumps(body)
            change(body, str(path))
            if json.dumps(body) == before:
                raise UserError(f"one of its edits in {name} changes nothing", where=str(source))
        path.write_text(json.dumps(body, ensure_ascii=False, indent=2), encoding="utf-8")
    if injection.tensors:
        _edit_tensors(target, injection)
    return target


def _edit_template(path: Path, injection: HfInjection) -> None:
    if injection.template is not None:
        old, new = injection.template
        text = path.read_text(encoding="utf-8")
        if old not in text:
            raise UserError(f"does not contain {old!r}", where=str(path))
        _rewrite(path, text.replace(old, new, 1))
    if injection.whole_template is not None:
        _rewrite(path, injection.whole_template)


def _rewrite(path: Path, text: str) -> None:
    if path.read_text(encoding="utf-8") == text:
        raise UserError("the template has the fault's text already", where=str(path))
    path.write_text(text, encoding="utf-8")


Change = Callable[[Any, str], None]


def _json_changes(injection: HfInjection) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for name, values in injection.edits.items():
        found.setdefault(name, []).extend(_put(path, value) for path, value in values.items())
    for name, paths in injection.without.items():
        found.setdefault(name, []).extend(_left_out(path) for path in paths)
    for name, places in injection.insert.items():
        found.setdefault(name, []).extend(
            _inserted(path, index, value) for path, (index, value) in places.items()
        )
    for name, paths in injection.reverse.items():
        found.setdefault(name, []).extend(_reversed(path) for path in paths)
    return found


def _put(path: str, value: Any) -> Change:
    def change(body: Any, where: str) -> None:
        parent, last = _reached(body, path, where)
        parent[last] = value

    return change


def _left_out(path: str) -> Change:
    def change(body: Any, where: str) -> None:
        parent, last = _reached(body, path, where)
        _found(parent, last, path, where)
        del parent[last]

    return change


def _inserted(path: str, index: int, value: Any) -> Change:
    def change(body: Any, where: str) -> None:
        _list_at(body, path, where).insert(index, value)

    return change


def _reversed(path: str) -> Change:
    def change(body: Any, where: str) -> None:
        _list_at(body, path, where).reverse()

    return change


def _list_at(body: Any, path: str, where: str) -> list[Any]:
    parent, last = _reached(body, path, where)
    value = _found(parent, last, path, where)
    if not isinstance(value, list):
        raise UserError(f"{path} is not a list", where=where)
    return value


def _reached(body: Any, path: str, where: str) -> tuple[Any, Any]:
    """Return the container that holds the last part of a dotted path, and that part."""
    *parts, last = path.split(".")
    for part in parts:
        body = _found(body, int(part) if isinstance(body, list) else part, path, where)
    if not isinstance(body, dict | list):
        raise UserError(f"there is no {path}", where=where)
    return body, int(last) if isinstance(body, list) else last


def _found(parent: Any, key: Any, path: str, where: str) -> Any:
    try:
        return parent[key]
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"there is no {path}", where=where) from error


def _edit_tensors(target: Path, injection: HfInjection) -> None:
    (path,) = target.glob("*.safetensors")
    tensors = load_file(path)
    with safe_open(path, framework="np") as opened:
        about = opened.metadata()
    edits = edits_of(injection.tensors, list(tensors), str(path))
    untouched = dict(tensors)
    context = EditContext(lambda name: np.asarray(untouched[name], np.float32), {})
    without_effect = list(injection.tensors)
    for name, own in edits.items():
        for edit in own:
            before = tensors.pop(name).copy()
            if edit.op != "drop":
                found = edited(name, np.asarray(before, np.float32), edit, context)
                tensors[name] = found.astype(before.dtype)
            if name not in tensors or tensors[name].tobytes() != before.tobytes():
                without_effect = [other for other in without_effect if other != edit]
            if name not in tensors:
                break
    refuse_edits_without_effect(without_effect, str(path))
    save_file(tensors, path, metadata=about)
