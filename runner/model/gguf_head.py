"""The head of a GGUF file, read field by field; every count and size is checked before it is used.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from suites.errors import UserError

#: Limits far above any real file: they bound time and memory for a damaged one.
_MOST_KEYS, _MOST_TENSORS, _MOST_ITEMS = 1 << 16, 1 << 20, 1 << 24
_MOST_DIMENSIONS = 4
_LONGEST_NAME = 256
_LEAST_KEY_BYTES, _LEAST_TENSOR_BYTES = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8
#: What to do with a damaged file.
DAMAGED: Final = "download or convert the file again; compare its sha256 with the publisher's"
_KIND = gguf.GGUFValueType
_NUMBERS = {
    _KIND.UINT8: "<u1",
    _KIND.INT8: "<i1",
    _KIND.UINT16: "<u2",
    _KIND.INT16: "<i2",
    _KIND.UINT32: "<u4",
    _KIND.INT32: "<i4",
    _KIND.FLOAT32: "<f4",
    _KIND.BOOL: "|b1",
    _KIND.UINT64: "<u8",
    _KIND.INT64: "<i8",
    _KIND.FLOAT64: "<f8",
}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in the file."""

    name: str
    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    """Rows first, as numpy and Hugging Face write it; the file has it in reverse."""
    start: int
    """First byte in its file."""
    size: int
    """Bytes."""
    part: int = 0
    """Which of the model's files has it, counted from 0."""


class Head:
    """Reads the head of the file from its first byte on."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self.at = path, data, 0

    def wrong(self, what: str) -> UserError:
        return UserError(f"not a sound GGUF file: {what}", where=str(self._path), fix=DAMAGED)

    def counts(self) -> tuple[int, int]:
        """Return how many keys and tensors the file says that it has."""
        magic = self._data[:4]
        if magic != b"GGUF":
            what = f"not a GGUF file: it begins with {magic!r}, not with {b'GGUF'!r}"
            raise UserError(what, where=str(self._path), fix="give a .gguf file, or a model folder")
        self.at = 4
        version = self._number("<I", "the version")
        if version in (2 << 24, 3 << 24):
            raise UserError(
                "a GGUF file of big-endian numbers, which are not read",
                where=str(self._path),
                fix="convert the model on a little-endian machine",
            )
        if version not in (2, 3):
            what = f"GGUF version {version}; known are 2 and 3"
            raise UserError(what, where=str(self._path), fix="convert the model again")
        tensors = self._number("<Q", "the number of tensors")
        keys = self._number("<Q", "the number of keys")
        left = len(self._data) - self.at
        for kind, count, most, size in (
            ("keys", keys, _MOST_KEYS, _LEAST_KEY_BYTES),
            ("tensors", tensors, _MOST_TENSORS, _LEAST_TENSOR_BYTES),
        ):
            if count > min(most, left // size):
                raise self.wrong(f"it says that it has {count} {kind}, for which it is too small")
        return keys, tensors

    def entry(self) -> tuple[str, Any]:
        """Return the next key and its value."""
        key = self._name("a key")
        kind = self._kind(key)
        return key, self._array(key) if kind is _KIND.ARRAY else self._value(kind, key)

    def tensor(self) -> StoredTensor:
        """Return the next tensor; its ``start`` counts from the first tensor's byte."""
        name = self._name("a tensor's name")
        about = f"tensor {name!r}"
        count = self._number("<I", f"the dimensions of {about}")
        if not 0 < count <= _MOST_DIMENSIONS:
            raise self.wrong(f"{about} has {count} dimensions")
        shape = tuple(self._number("<Q", f"the shape of {about}") for _ in range(count))[::-1]
        number = self._number("<I", f"the type of {about}")
        start = self._number("<Q", f"the place of {about}")
        try:
            kind = gguf.GGMLQuantizationType(number)
            block, bytes_of_block = gguf.GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            raise self.wrong(f"{about} has the type {number}, which is not known") from error
        if 0 in shape or shape[-1] % block:
            raise self.wrong(f"{about} has the shape {list(shape)}, impossible for {kind.name}")
        return StoredTensor(name, kind, shape, start, math.prod(shape) // block * bytes_of_block)

    def _name(self, about: str) -> str:
        """Return a name that can be shown: it is short and has no control characters."""
        found = self._string(about)
        if len(found) > _LONGEST_NAME or not found.isprintable():
            raise self.wrong(f"{about} is {found!r:.80}")
        return found

    def _kind(self, key: str) -> gguf.GGUFValueType:
        number = self._number("<I", f"the type of {key!r:.80}")
        try:
            return _KIND(number)
        except ValueError as error:
            raise self.wrong(
                f"{key!r:.80} has the value type {number}, which is not known"
            ) from error

    def _value(self, kind: gguf.GGUFValueType, key: str) -> Any:
        if kind is _KIND.STRING:
            return self._string(f"{key!r:.80}")
        return self._numbers(kind, 1, key)[0].item()

    def _array(self, key: str) -> Any:
        kind = self._kind(key)
        length = self._number("<Q", f"the length of {key!r:.80}")
        if length > _MOST_ITEMS:
            raise self.wrong(f"{key!r:.80} says that it has {length} items")
        if kind is _KIND.ARRAY:
            raise self.wrong(f"{key!r:.80} is an array of arrays, which no known key is")
        if kind is not _KIND.STRING:
            return self._numbers(kind, length, key)
        self.refuse_beyond(f"{key!r:.80}", self.at + length * 8)
        return [self._string(f"an item of {key!r:.80}") for _ in range(length)]

    def _numbers(self, kind: gguf.GGUFValueType, count: int, key: str) -> npt.NDArray[Any]:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self._take(count * dtype.itemsize, f"{key!r:.80}"), dtype)

    def _string(self, about: str) -> str:
        size = self._number("<Q", about)
        try:
            return self._take(size, about).decode()
        except UnicodeDecodeError as error:
            raise self.wrong(f"{about} at byte {self.at - size} is not UTF-8") from error

    def _number(self, form: str, about: str) -> int:
        (found,) = struct.unpack(form, self._take(struct.calcsize(form), about))
        return int(found)

    def _take(self, size: int, about: str) -> bytes:
        start, end = self.at, self.at + size
        self.refuse_beyond(about, end)
        self.at = end
        return self._data[start:end]

    def refuse_beyond(self, about: str, end: int) -> None:
        """Raise UserError if what ends at byte ``end`` is not wholly in the file."""
        if end > len(self._data):
            what = f"{about} ends at byte {end}, the file has only {len(self._data)}"
            raise UserError(f"truncated or damaged: {what}", where=str(self._path), fix=DAMAGED)
