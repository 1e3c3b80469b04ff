"""What a large GGUF's weights are is computed once."""

import json
from pathlib import Path

import pytest

from runner.model import described
from runner.model.artifact import describe_variant
from runner.model.described import describe_gguf
from tests.paths import TINY_CHAT

Q8 = TINY_CHAT / "tiny-chat-q8_0.gguf"


def test_a_small_file_is_read_and_nothing_is_kept(tmp_path: Path) -> None:
    assert describe_gguf(Q8, tmp_path) == describe_variant(Q8, "gguf")
    assert not list(tmp_path.iterdir())


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = describe_gguf(Q8, tmp_path, large=1)
    assert first == describe_variant(Q8, "gguf")
    monkeypatch.delattr(described, "describe_weights")
    assert describe_gguf(Q8, tmp_path, large=1) == first


def test_a_damaged_note_is_not_believed(tmp_path: Path) -> None:
    first = describe_gguf(Q8, tmp_path, large=1)
    (note,) = tmp_path.rglob("*.json")
    for damaged in ("", "[1, 2]", "{}", "null"):
        note.write_text(damaged)
        assert describe_gguf(Q8, tmp_path, large=1) == first
    assert json.loads(note.read_text()) == list(first[1:])


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert describe_gguf(Q8, tmp_path / "file", large=1) == describe_variant(Q8, "gguf")
