"""A GGUF file's metadata and tensors, with every count and size checked before it is used.

The gguf library's reader trusts the file: a damaged one fails there with numpy's words, or after
it has taken all memory. This one refuses it with the place and the reason. Of the library it uses
the table of types and the arithmetic that turns quantised blocks into numbers.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from runner.model.gguf_parts import gguf_parts
from suites.errors import UserError

#: Limits far above any real file: they bound time and memory for a damaged one.
_MOST_KEYS, _MOST_TENSORS, _MOST_ITEMS = 1 << 16, 1 << 20, 1 << 24
_MOST_DIMENSIONS = 4
_LEAST_KEY_BYTES, _LEAST_TENSOR_BYTES = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8
_FIX: Final = "download or convert the file again; compare its sha256 with the publisher's"
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
#: Types that are stored as plain numbers and that the library's arithmetic does not read.
_PLAIN = {"F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1"}

Floats = npt.NDArray[np.float32]


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


class GgufReading:
    """The metadata of a GGUF model by key, and its tensors by name; all parts of a split one.

    Arrays of numbers are numpy arrays, arrays of strings are lists.
    """

    def __init__(self, path: Path) -> None:
        """Read the head of each file; the tensors' bytes are not read.

        Raises:
            UserError: a file is missing, or is not a whole and sound GGUF file.
        """
        self.path = path
        self.parts = gguf_parts(path)
        self.metadata: dict[str, Any] = {}
        self.tensors: dict[str, StoredTensor] = {}
        self._bytes: list[mmap.mmap] = []
        for number, part in enumerate(self.parts):
            self._bytes.append(_mapped(part))
            self._read(number, _Head(part, self._bytes[number]))
        said = self.metadata.get("split.tensors.count", len(self.tensors))
        if len(self.parts) > 1 and said != len(self.tensors):
            what = f"its parts have {len(self.tensors)} tensors, the first one says {said}"
            raise UserError(what, where=str(path), fix=_FIX)

    def _read(self, number: int, head: "_Head") -> None:
        keys, tensors = head.counts()
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key, value = head.entry()
            if key in metadata:
                raise head.wrong(f"the key {key!r} appears twice")
            metadata[key] = value
        split = metadata.get("split.no", 0), metadata.get("split.count", 1) or 1
        if split != (number, len(self.parts)):
            what = f"it says that it is part {split[0] + 1} of {split[1]}, its name says otherwise"
            raise head.wrong(what)
        found = [head.tensor() for _ in range(tensors)]
        for tensor in _located(head, number, found, metadata.get("general.alignment")):
            if tensor.name in self.tensors:
                raise head.wrong(f"the tensor {tensor.name} appears twice")
            self.tensors[tensor.name] = tensor
        if number == 0:
            self.metadata = metadata

    def values(self, tensor: StoredTensor) -> Floats:
        """Return a tensor's numbers in its shape, dequantised to fp32.

        Raises:
            UserError: the gguf library cannot dequantise its type.
        """
        raw = np.frombuffer(self._bytes[tensor.part], np.uint8, tensor.size, tensor.start)
        plain = _PLAIN.get(tensor.kind.name)
        if plain is not None:
            return raw.view(plain).reshape(tensor.shape).astype(np.float32)
        try:
            rows = raw.reshape(*tensor.shape[:-1], -1)
            found = gguf.quants.dequantize(rows, tensor.kind)
        except NotImplementedError as error:
            raise UserError(
                f"tensor {tensor.name} has the type {tensor.kind.name}, which the gguf library "
                "cannot dequantise",
                where=str(self.path),
                fix="use a file of another quantisation, or a newer gguf library",
            ) from error
        return np.asarray(found, np.float32).reshape(tensor.shape)


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError as error:
        raise UserError("file is missing", where=str(path), fix="check the path") from error
    except ValueError as error:
        raise UserError("the file is empty", where=str(path), fix=_FIX) from error
    except OSError as error:
        raise UserError(error.strerror or "cannot be read", where=str(path)) from error


def _located(
    head: "_Head", part: int, found: list[StoredTensor], alignment: Any
) -> Iterator[StoredTensor]:
    """Yield the tensors of a file with their places counted from its first byte."""
    if alignment is None:
        alignment = gguf.GGUF_DEFAULT_ALIGNMENT
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise head.wrong(f"general.alignment is {alignment!r}, not a power of two")
    data = -(-head.at // alignment) * alignment
    end, before = data, "the metadata"
    for tensor in sorted(found, key=lambda t: t.start):
        start = data + tensor.start
        if start % alignment or start < end:
            where = "is not aligned" if start % alignment else f"lies inside of {before}"
            raise head.wrong(f"tensor {tensor.name} begins at byte {start}, which {where}")
        end, before = start + tensor.size, tensor.name
        head.refuse_beyond(f"tensor {tensor.name}", end)
        yield replace(tensor, start=start, part=part)


class _Head:
    """Reads the head of the file from its first byte on."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self.at = path, data, 0

    def wrong(self, what: str) -> UserError:
        return UserError(f"not a sound GGUF file: {what}", where=str(self._path), fix=_FIX)

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
        key = self._string("a key")
        kind = self._kind(key)
        return key, self._array(key) if kind is _KIND.ARRAY else self._value(kind, key)

    def tensor(self) -> StoredTensor:
        """Return the next tensor; its ``start`` counts from the first tensor's byte."""
        name = self._string("a tensor's name")
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

    def _kind(self, key: str) -> gguf.GGUFValueType:
        number = self._number("<I", f"the type of {key!r}")
        try:
            return _KIND(number)
        except ValueError as error:
            raise self.wrong(f"{key!r} has the value type {number}, which is not known") from error

    def _value(self, kind: gguf.GGUFValueType, key: str) -> Any:
        if kind is _KIND.STRING:
            return self._string(f"{key!r}")
        return self._numbers(kind, 1, key)[0].item()

    def _array(self, key: str) -> Any:
        kind = self._kind(key)
        length = self._number("<Q", f"the length of {key!r}")
        if length > _MOST_ITEMS:
            raise self.wrong(f"{key!r} says that it has {length} items")
        if kind is _KIND.ARRAY:
            raise self.wrong(f"{key!r} is an array of arrays, which no known key is")
        if kind is not _KIND.STRING:
            return self._numbers(kind, length, key)
        self.refuse_beyond(f"{key!r}", self.at + length * 8)
        return [self._string(f"an item of {key!r}") for _ in range(length)]

    def _numbers(self, kind: gguf.GGUFValueType, count: int, key: str) -> npt.NDArray[Any]:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(self._take(count * dtype.itemsize, f"{key!r}"), dtype)

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
            what = f"truncated: {about} ends at byte {end}, the file has only {len(self._data)}"
            raise UserError(what, where=str(self._path), fix=_FIX)
