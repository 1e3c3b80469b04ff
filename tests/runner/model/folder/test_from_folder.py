"""A Hugging Face folder in any common layout is completed; what cannot be read is refused."""

import base64
import json
import random
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from runner.model.artifact import model_digests
from runner.model.facts import chat_template, model_facts
from runner.model.folder import FoundArtifact, find_artifact, model_folder
from suites.errors import UserError
from tests.paths import TINY_CHAT

TEXTS = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shipped model without its template."""
    made = tmp_path / "model"
    made.mkdir()
    for name in (*TEXTS, "model.safetensors"):
        shutil.copy(TINY_CHAT / name, made)
    return made


def _change(path: Path, **values: Any) -> None:
    body = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(body | values))


def _shard(folder: Path) -> list[str]:
    """Write the weights in two files with their index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    files = {tensor: names[i % 2] for i, tensor in enumerate(sorted(tensors))}
    for name in names:
        save_file({t: tensors[t] for t, file in files.items() if file == name}, folder / name)
    _change(folder / "model.safetensors.index.json", weight_map=files)
    return names


def test_a_complete_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    found = model_folder(TINY_CHAT, tmp_path / "cache")
    assert (found.path, found.taken_from, found.notes) == (TINY_CHAT, "hf", ())
    assert not (tmp_path / "cache").exists()


def test_shards_are_read_as_one_model(folder: Path, tmp_path: Path) -> None:
    _shard(folder)
    found = model_folder(folder, tmp_path / "cache")
    assert model_digests(found.path)[0] == model_digests(TINY_CHAT)[0]


def test_a_missing_shard_is_named(folder: Path, tmp_path: Path) -> None:
    _, second = _shard(folder)
    (folder / second).unlink()
    with pytest.raises(UserError, match=f"names 2 files; missing: {second}"):
        model_folder(folder, tmp_path / "cache")


def test_an_index_that_names_files_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    index = folder / "model.safetensors.index.json"
    _change(index, weight_map={"lm_head.weight": "../other/model.safetensors"})
    with pytest.raises(UserError, match=r"names '\.\./other/model\.safetensors', which is not"):
        model_folder(folder, tmp_path / "cache")


def test_weights_that_the_index_does_not_name_are_left_out(folder: Path, tmp_path: Path) -> None:
    _shard(folder)
    save_file({"tok_embeddings.weight": np.ones((2, 2), "f4")}, folder / "consolidated.safetensors")
    found = model_folder(folder, tmp_path / "cache")
    assert found.notes == (
        "not named by the index of the weights, and left out: consolidated.safetensors",
    )
    assert model_digests(found.path)[0] == model_digests(TINY_CHAT)[0]
    assert model_digests(folder)[0] == model_digests(TINY_CHAT)[0]


NAMED = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]


@pytest.mark.parametrize(
    ("name", "value", "default", "more"),
    [
        ("tokenizer_config.json", "D", "D", {}),
        ("tokenizer_config.json", NAMED, "D", {"tool_use.jinja": "T"}),
        ("chat_template.json", "D", "D", {}),
    ],
)
def test_a_template_is_found_wherever_it_stands(
    folder: Path, tmp_path: Path, name: str, value: Any, default: str, more: dict[str, str]
) -> None:
    _change(folder / name, chat_template=value)
    found = model_folder(folder, tmp_path / "cache").path
    assert chat_template(found) == default
    extra = found / "additional_chat_templates"
    assert {p.name: p.read_text() for p in extra.glob("*")} == more
    weights, texts = model_digests(found)
    own_weights, own_texts = model_digests(TINY_CHAT)
    assert (weights, texts.split("-")[0]) == (own_weights, own_texts.split("-")[0])


def test_a_template_s_name_is_no_way_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    evil = [{"name": "default", "template": "D"}, {"name": "../../evil", "template": "E"}]
    _change(folder / "tokenizer_config.json", chat_template=evil)
    model_folder(folder, tmp_path / "cache")
    assert not list(tmp_path.rglob("evil*"))


def test_a_changed_folder_is_completed_again(folder: Path, tmp_path: Path) -> None:
    for template in ("A", "BB"):
        _change(folder / "tokenizer_config.json", chat_template=template)
        assert chat_template(model_folder(folder, tmp_path / "cache").path) == template


def test_vocab_and_merges_are_a_tokenizer_of_their_class(folder: Path, tmp_path: Path) -> None:
    theirs = json.loads((TINY_CHAT / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    _change(folder / "vocab.json", **theirs["model"]["vocab"])
    lines = [" ".join(pair) for pair in theirs["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
    added = {
        str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in theirs["added_tokens"]
    }
    _change(
        folder / "tokenizer_config.json",
        tokenizer_class="Qwen2Tokenizer",
        added_tokens_decoder=added,
    )
    ours = Tokenizer.from_file(
        str(model_folder(folder, tmp_path / "cache").path / "tokenizer.json")
    )
    wanted = Tokenizer.from_file(str(TINY_CHAT / "tokenizer.json"))
    for text in ("Hello, world! cafe\u0301", "<|role|>user<|body|> <think>", "  a\n\nb"):
        assert ours.encode(text).ids == wanted.encode(text, add_special_tokens=False).ids


def test_a_tokenizer_whose_splitting_is_code_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer.json").unlink()
    _change(folder / "config.json", model_type="kimi_k2")
    line = base64.b64encode(b"a") + b" 0\n"
    (folder / "tiktoken.model").write_bytes(line)
    with pytest.raises(UserError, match="'kimi_k2' models split text stands in Python code"):
        model_folder(folder, tmp_path / "cache")


def test_a_folder_without_a_tokenizer_says_which_would_be_read(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer that can be read") as caught:
        model_folder(folder, tmp_path / "cache")
    assert "tekken.json" in caught.value.known


def test_pickled_weights_are_refused_unopened(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickles \(pytorch_model\.bin\), which can run code"):
        model_folder(folder, tmp_path / "cache")


def test_a_folder_with_one_gguf_is_that_gguf(tmp_path: Path) -> None:
    shutil.copy(TINY_CHAT / "tiny-chat-f32.gguf", tmp_path)
    (tmp_path / "mmproj-f16.gguf").write_bytes(b"not opened")
    found = model_folder(tmp_path, tmp_path / "cache")
    assert found.gguf == tmp_path / "tiny-chat-f32.gguf"
    assert "mmproj-f16.gguf was ignored: images are not qualified" in found.notes


def test_what_is_served_is_found_without_making_anything(tmp_path: Path) -> None:
    gguf = TINY_CHAT / "tiny-chat-q8_0.gguf"
    assert find_artifact(gguf) == FoundArtifact(gguf, "gguf")
    assert find_artifact(TINY_CHAT) == FoundArtifact(TINY_CHAT, "hf")
    shutil.copy(gguf, tmp_path / "only.gguf")
    assert find_artifact(tmp_path) == FoundArtifact(tmp_path / "only.gguf", "gguf")
    (tmp_path / "mmproj.gguf").touch()
    assert find_artifact(tmp_path).notes == ("mmproj.gguf was ignored: images are not qualified",)
    with pytest.raises(UserError, match="reads images, not a language model"):
        find_artifact(tmp_path / "mmproj.gguf")


def test_a_folder_with_several_ggufs_asks_for_one(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(TINY_CHAT / "tiny-chat-q8_0.gguf", tmp_path / name)
    with pytest.raises(UserError, match="holds 2 GGUF models") as caught:
        model_folder(tmp_path, tmp_path / "cache")
    assert caught.value.known == "a.gguf, b.gguf"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file or folder"),
        (lambda path: path.mkdir(), "neither config.json nor a GGUF file"),
    ],
)
def test_where_there_is_no_model_it_says_so(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "x")
    with pytest.raises(UserError, match=message):
        model_folder(tmp_path / "x", tmp_path / "cache")


# Damaged files


def _sentencepiece() -> bytes:
    """A SentencePiece model of a few pieces, as its library writes it."""

    def field(number: int, body: bytes) -> bytes:
        return bytes([number << 3 | 2, len(body)]) + body

    def piece(text: str, score: float, kind: int) -> bytes:
        return field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([24, kind])

    byte_pieces = [piece(f"<0x{n:02X}>", 0, 6) for n in range(256)]
    words = [("▁", -3), ("a", -4), ("b", -5), ("ab", -1), ("▁ab", -2)]
    pieces = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3), *byte_pieces]
    pieces += [piece(text, score, 1) for text, score in words]
    return b"".join(field(1, p) for p in pieces) + field(2, b"\x18\x02") + field(3, b"\x20\x00")


def test_a_sentencepiece_file_becomes_the_tokenizer_that_it_is(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(_sentencepiece())
    (folder / "tokenizer_config.json").write_text("{}")
    made = model_folder(folder, tmp_path / "cache").path
    tokenizer = Tokenizer.from_file(str(made / "tokenizer.json"))
    assert tokenizer.encode("ab ab é").tokens == [
        "<s>",
        "▁ab",
        "▁ab",
        "▁",
        "<0xC3>",
        "<0xA9>",
    ]
    assert tokenizer.decode(tokenizer.encode("ab ab é").ids) == "ab ab é"


def _read(folder: Path, cache: Path) -> None:
    """Read all that a run reads of a model before an engine starts."""
    made = model_folder(folder, cache).path
    model_digests(made)
    model_facts(made, "structure", {})


DAMAGED = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(DAMAGED),
    seed=st.integers(min_value=0, max_value=1 << 32),
    count=st.integers(min_value=0, max_value=6),
)
def test_damaged_files_end_in_a_message_or_load(
    tmp_path_factory: pytest.TempPathFactory, name: str, seed: int, count: int
) -> None:
    draw, root = random.Random(seed), tmp_path_factory.mktemp("damaged")
    folder = root / "model"
    folder.mkdir()
    for text in (*TEXTS, "model.safetensors"):
        shutil.copy(TINY_CHAT / text, folder)
    if name == "tokenizer.model":
        (folder / "tokenizer.json").unlink()
        (folder / name).write_bytes(_sentencepiece())
    damaged = bytearray((folder / name).read_bytes())
    head = min(len(damaged), 4000)
    for _ in range(count):
        damaged[draw.randrange(head)] = draw.choice([draw.randrange(256), *b'"09[{-e,'])
    if not count:
        del damaged[draw.randrange(len(damaged)) :]
    (folder / name).write_bytes(damaged)
    began, refused = time.process_time(), None
    try:
        _read(folder, root / "cache")
    except UserError as error:
        refused = error
    assert time.process_time() - began < 2
    if refused is not None:
        assert refused.where
        assert "codec" not in refused.what
