"""A GGUF file's metadata and tensors, with every count and size checked before it is used.

The gguf library's reader trusts the file: a damaged one fails there with numpy's words, or after
it has taken all memory. This one refuses it with the place and the reason. Of the library it uses
the table of types and the arithmetic that turns quantised blocks into numbers.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from runner.model.gguf_head import DAMAGED, Head, StoredTensor
from runner.model.gguf_parts import gguf_parts
from suites.errors import UserError

#: Types that are stored as plain numbers and that the library's arithmetic does not read.
_PLAIN = {"F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1"}

Floats = npt.NDArray[np.float32]


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
            self._read(number, Head(part, self._bytes[number]))
        said = self.metadata.get("split.tensors.count", len(self.tensors))
        if len(self.parts) > 1 and said != len(self.tensors):
            what = f"its parts have {len(self.tensors)} tensors, the first one says {said}"
            raise UserError(what, where=str(path), fix=DAMAGED)

    def _read(self, number: int, head: Head) -> None:
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
        raise UserError("the file is empty", where=str(path), fix=DAMAGED) from error
    except OSError as error:
        raise UserError(error.strerror or "cannot be read", where=str(path)) from error


def _located(
    head: Head, part: int, found: list[StoredTensor], alignment: Any
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
