"""The digest of a model's texts: templates, special tokens and ends are in it, noise is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.model.artifact import read_json
from runner.model.texts import tokenizer_digest
from tests.paths import TINY_CHAT

Edit = Callable[[dict[str, Any]], dict[str, Any]]


def _digest(folder: Path) -> str:
    return tokenizer_digest(folder)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped model's texts, to be edited."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in [*TINY_CHAT.glob("*.json"), *TINY_CHAT.glob("*.jinja")]:
        shutil.copy(path, folder)
    return folder


def _edit(path: Path, edit: Edit) -> None:
    path.write_text(json.dumps(edit(read_json(path))))


def test_a_corrected_template_is_another_text_beside_the_same_tokenizer(copy: Path) -> None:
    path = copy / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|body|>\\n\\n", "<|body|>\\n"))
    same, other = _digest(TINY_CHAT).split("-"), _digest(copy).split("-")
    assert same[0] == other[0]
    assert same[1] != other[1]


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("generation_config.json", lambda g: {**g, "eos_token_id": [1528]}),
        ("generation_config.json", lambda g: {**g, "repetition_penalty": 1.3}),
        ("tokenizer_config.json", lambda c: {**c, "bos_token": "<|role|>"}),
        ("tokenizer_config.json", lambda c: {**c, "clean_up_tokenization_spaces": True}),
        ("tokenizer_config.json", lambda c: {**c, "add_bos_token": True}),
        ("tokenizer.json", lambda t: {**t, "normalizer": None}),
    ],
)
def test_what_changes_an_answer_changes_the_digest(copy: Path, name: str, edit: Edit) -> None:
    _edit(copy / name, edit)
    assert _digest(copy) != _digest(TINY_CHAT)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("generation_config.json", lambda g: {**g, "transformers_version": "0", "top_k": 3}),
        ("generation_config.json", lambda g: {**g, "eos_token_id": g["eos_token_id"][::-1]}),
        ("tokenizer_config.json", lambda c: {**c, "model_max_length": 7}),
        ("tokenizer_config.json", lambda c: {**c, "add_bos_token": False}),
        ("tokenizer.json", lambda t: dict(reversed(t.items()))),
        ("config.json", lambda c: {**c, "rms_norm_eps": 1.0}),
    ],
)
def test_what_changes_no_answer_changes_nothing(copy: Path, name: str, edit: Edit) -> None:
    _edit(copy / name, edit)
    assert _digest(copy) == _digest(TINY_CHAT)


def test_the_template_may_stand_in_the_tokenizer_s_configuration(copy: Path) -> None:
    template = copy / "chat_template.jinja"
    text = template.read_text()
    template.unlink()
    assert _digest(copy) != _digest(TINY_CHAT)
    _edit(copy / "tokenizer_config.json", lambda c: {**c, "chat_template": text})
    assert _digest(copy) == _digest(TINY_CHAT)


def test_templates_that_cannot_be_read_are_told_apart(copy: Path) -> None:
    found = set()
    for damage in (b"\xff", b"\xfe"):
        (copy / "chat_template.jinja").write_bytes(damage)
        found.add(_digest(copy))
    assert len(found) == 2
