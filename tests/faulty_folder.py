"""Copies of a model folder in Hugging Face's layout with one of its texts changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

JsonEdit = Callable[[dict[str, Any]], None]

_PARTS = ("*.json", "*.jinja", "*.safetensors")


def edited_folder(
    source: Path,
    target: Path,
    *,
    template: tuple[str, str] | None = None,
    edits: dict[str, JsonEdit] | None = None,
) -> Path:
    """Copy ``source`` with a piece of its template replaced, or JSON files edited in place."""
    target.mkdir(parents=True)
    for pattern in _PARTS:
        for path in source.glob(pattern):
            shutil.copy(path, target)
    if template:
        path = target / "chat_template.jinja"
        text = path.read_text(encoding="utf-8")
        if template[0] not in text:
            raise ValueError(f"the template holds no {template[0]!r}")
        path.write_text(text.replace(*template, 1), encoding="utf-8")
    for name, edit in (edits or {}).items():
        body = json.loads((target / name).read_text(encoding="utf-8"))
        edit(body)
        (target / name).write_text(json.dumps(body, ensure_ascii=False), encoding="utf-8")
    return target
