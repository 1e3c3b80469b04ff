"""A GGUF alone becomes a complete model folder: the same model as the one that it was made from."""

import json
import random
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.injections import GgufInjection
from runner.model.artifact import describe_variant, model_digests
from runner.model.facts import model_facts
from runner.model.folder import ModelFolder, model_folder
from suites.errors import UserError
from tests.paths import TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
Q8 = TINY_CHAT / "tiny-chat-q8_0.gguf"
#: A GGUF does not hold these: the normaliser, and names.
UNKNOWN_TO_GGUF = {"normalizer", "model_name"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(cache: Path) -> ModelFolder:
    return model_folder(F32, cache)


def test_the_folder_has_the_weights_of_the_original(made: ModelFolder) -> None:
    assert model_digests(made.path)[0] == model_digests(TINY_CHAT)[0]


def test_a_quantised_file_becomes_the_weights_that_it_holds(cache: Path) -> None:
    assert model_digests(model_folder(Q8, cache).path)[0] == describe_variant(Q8, "gguf")[2]


def test_the_folder_states_the_facts_of_the_original(made: ModelFolder) -> None:
    found, wanted = (model_facts(folder, "structure", {}) for folder in (made.path, TINY_CHAT))
    assert {k for k in wanted if found[k] != wanted[k]} <= UNKNOWN_TO_GGUF


def test_texts_become_the_tokens_of_the_original(made: ModelFolder) -> None:
    ours, theirs = (Tokenizer.from_file(str(f / "tokenizer.json")) for f in (made.path, TINY_CHAT))
    texts = [
        "Hello, world! It's 12345 o'clock.",
        "  spaces\t and\n\n newlines \r\n",
        "<|bos|><|role|>user<|body|>\n\nwhat?<|turn_end|><think>no</think><tool_call>",
        "żółć 我想在 \U0001f980 ½",
    ]
    for text in texts:
        encoded = ours.encode(text)
        assert encoded.ids == theirs.encode(text).ids
        for skips in (True, False):
            assert ours.decode(encoded.ids, skip_special_tokens=skips) == theirs.decode(
                encoded.ids, skip_special_tokens=skips
            )


def test_added_tokens_keep_whether_they_are_special(made: ModelFolder) -> None:
    def flags(folder: Path) -> dict[str, tuple[int, bool]]:
        added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
        return {token["content"]: (token["id"], token["special"]) for token in added}

    assert flags(made.path) == flags(TINY_CHAT)


def test_the_template_is_kept_to_the_byte(made: ModelFolder) -> None:
    name = "chat_template.jinja"
    assert (made.path / name).read_bytes() == (TINY_CHAT / name).read_bytes()


def test_the_verdict_s_reader_is_told_that_conversion_was_not_checked(made: ModelFolder) -> None:
    assert made.taken_from == "gguf"
    assert made.gguf == F32
    assert made.notes == ("the GGUF was taken as the model: conversion was not checked",)


def test_a_folder_is_made_once_and_nothing_half_made_stays(cache: Path, made: ModelFolder) -> None:
    before = (made.path / "config.json").stat().st_mtime_ns
    assert model_folder(F32, cache).path == made.path
    assert (made.path / "config.json").stat().st_mtime_ns == before
    assert not [entry for entry in cache.iterdir() if entry.name.startswith(".")]


def test_an_architecture_that_is_not_known_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path, length = tmp_path / "m.gguf", struct.pack("<Q", 5)
    path.write_bytes(F32.read_bytes().replace(length + b"llama", length + b"mamba", 1))
    with pytest.raises(UserError, match=r"'mamba' cannot be read from a GGUF alone") as caught:
        model_folder(path, tmp_path / "cache")
    assert "qwen3" in caught.value.known
    assert not (tmp_path / "cache").exists()


def test_a_pre_tokenizer_that_is_not_known_is_refused(tmp_path: Path) -> None:
    fields = {"tokenizer.ggml.pre": "kimi-k9"}
    path = faulty_gguf(F32, tmp_path / "m.gguf", GgufInjection(fields=fields))
    with pytest.raises(UserError, match="'kimi-k9', a rule that is not known"):
        model_folder(path, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=1 << 32), st.integers(min_value=1, max_value=4))
def test_a_damaged_gguf_ends_in_a_message_or_a_model(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    draw, root = random.Random(seed), tmp_path_factory.mktemp("damaged")
    damaged = bytearray(Q8.read_bytes())
    for _ in range(count):
        # The metadata, the template with the keys near it, or the list of tensors.
        low, high = draw.choice([(0, 1500), (43_000, 47_000), (0, 47_000)])
        damaged[draw.randrange(low, high)] = draw.randrange(256)
    path = root / "damaged.gguf"
    path.write_bytes(damaged)
    began, refused = time.process_time(), None
    try:
        model_facts(model_folder(path, root / "cache").path, "structure", {})
    except UserError as error:
        refused = error
    assert time.process_time() - began < 2
    assert refused is None or refused.where
