"""Model folders of a few lines: the shipped tokenizer with other templates."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suites.derive import derive_suite
from suites.loading import SHIPPED
from suites.suite import Suite

TINY_CHAT = SHIPPED / "models" / "tiny-chat"
_TEXTS = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json")

#: ChatML: no tools, no reasoning.
CHATML = """\
{%- for m in messages %}
{{- '<|role|>' + m.role + '\\n' + m.content + '<|turn_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|role|>assistant\\n' }}{% endif -%}
"""

ModelMaker = Callable[..., Path]


@pytest.fixture
def model(tmp_path: Path) -> ModelMaker:
    """Return a function that makes a model folder with a template and changed files."""

    def make(template: str | None, **changes: dict[str, Any]) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        for name in _TEXTS:
            shutil.copy(TINY_CHAT / name, folder / name)
        for name, change in changes.items():
            path = folder / f"{name}.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        return folder

    return make


@pytest.fixture(scope="session")
def derived() -> Suite:
    """The suite that is derived from the shipped model."""
    return derive_suite(TINY_CHAT, name="derived")
