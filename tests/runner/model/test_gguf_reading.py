"""A damaged GGUF ends in one message that says what is wrong and where, within two seconds."""

import random
import shutil
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.model.artifact import GgufFile
from runner.model.gguf_reading import GgufReading
from suites.errors import UserError
from tests.paths import TINY_CHAT
from tests.runner.model.split_gguf import split_gguf

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
WHOLE = F32.read_bytes()
#: Where the tensors' bytes begin in the shipped file, about: damage before it is in the head.
HEAD = 45_000
#: Words of the libraries below, which say nothing to a user.
RAW_WORDS = ("index", "out of bounds", "buffer", "reshape", "cannot convert", "unpack", "codec")


def test_it_reads_what_the_library_reads() -> None:
    ours, theirs = GgufReading(F32), gguf.GGUFReader(F32)
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            found = ours.metadata[key]
            assert (found.tolist() if isinstance(found, np.ndarray) else found) == field.contents()
    assert set(ours.tensors) == {tensor.name for tensor in theirs.tensors}
    for tensor in theirs.tensors:
        found = ours.values(ours.tensors[tensor.name])
        wanted = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(found, wanted.reshape(found.shape))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"PK\x03\x04", "not a GGUF file: it begins with b'PK"),
        (b"GGUF", r"truncated or damaged: the version ends at byte 8, the file has only 4"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "GGUF version 1; known are 2 and 3"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "1152921504606846976 tensors, for which"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "1152921504606846976 keys, for which"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        GgufReading(path)


@pytest.mark.parametrize("name", [b"\x1b[2J" * 3, b"x" * 4000])
def test_a_name_that_cannot_be_shown_is_refused_in_few_words(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / "name.gguf"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", len(name)) + name
    path.write_bytes(head + bytes(64))
    with pytest.raises(UserError, match="a key is '") as caught:
        GgufReading(path)
    assert len(caught.value.what) < 200
    assert caught.value.what.isprintable()


def test_a_cut_file_names_the_tensor_and_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(WHOLE[:-1000])
    what = rf"tensor [a-z0-9_.]+ ends at byte \d+, the file has only {len(WHOLE) - 1000}"
    with pytest.raises(UserError, match=what):
        GgufReading(path)


def _sound_or_refused(path: Path) -> None:
    """Load a file, or see it refused, within the limits."""
    began, refused = time.process_time(), None
    try:
        for tensor in GgufFile(path).tensors().values():
            tensor.values()
    except UserError as error:
        refused = error
    assert time.process_time() - began < 2
    if refused is not None:
        assert refused.where
        assert not [word for word in RAW_WORDS if word in refused.what.lower()], refused.what


@settings(max_examples=40, deadline=None)
@given(st.integers(min_value=0, max_value=len(WHOLE) - 1))
def test_a_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, size: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "cut.gguf"
    path.write_bytes(WHOLE[:size])
    with pytest.raises(UserError):
        GgufFile(path)


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0, max_value=1 << 32), st.integers(min_value=1, max_value=8))
def test_flipped_bytes_of_the_head_end_in_a_message_or_load(
    tmp_path_factory: pytest.TempPathFactory, seed: int, count: int
) -> None:
    draw = random.Random(seed)
    damaged = bytearray(WHOLE)
    for _ in range(count):
        damaged[draw.randrange(HEAD)] = draw.randrange(256)
    path = tmp_path_factory.mktemp("flipped") / "flipped.gguf"
    path.write_bytes(damaged)
    _sound_or_refused(path)


def test_any_part_of_a_split_model_finds_all(tmp_path: Path) -> None:
    for path in split_gguf(F32, tmp_path, 3):
        found = GgufFile(path)
        assert {n: t.digest() for n, t in found.tensors().items()} == {
            n: t.digest() for n, t in GgufFile(F32).tensors().items()
        }
        assert found.field("llama.block_count") == 4


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    first, second, _ = split_gguf(F32, tmp_path, 3)
    second.unlink()
    with pytest.raises(UserError, match=r"3 parts; missing: tiny-00002-of-00003\.gguf"):
        GgufFile(first)


def test_a_part_under_another_part_s_name_is_refused(tmp_path: Path) -> None:
    first, second = split_gguf(F32, tmp_path, 2)
    shutil.copy(first, second)
    with pytest.raises(UserError, match="part 1 of 2, its name says otherwise"):
        GgufFile(first)
