"""Tensors as model files store them, and a safetensors reader: numpy itself has no bfloat16."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from suites.errors import UserError

Values = npt.NDArray[np.float32]

_HEADER_LIMIT = 100 << 20
_FIX = "download the file again; compare its sha256 with the publisher's"
_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
#: Types of buffers that old folders store beside the weights: masks, position ids.
_INTEGERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}

#: Tensors that are computed from config.json, which the ``config`` stage compares. llama.cpp's
#: converter writes them for its kernels (rope factors of Llama 3 and Phi 3), and old Hugging Face
#: folders saved them as buffers. The two sides have different ones, and they are no weights.
_DERIVED = re.compile(
    r"rope_(freqs|factors_long|factors_short)\.weight|blk\.\d+\.attn_rot_embd(\.weight)?"
    r"|(.*\.)?rotary_emb\.inv_freq"
)


@dataclass(frozen=True)
class Tensor:
    """One stored tensor; ``values`` reads it, dequantised, in Hugging Face's layout.

    ``values`` raises UserError for a type that cannot be dequantised yet.
    """

    name: str
    kind: str
    """F32, F16, BF16, Q8_0, I32, …"""
    shape: tuple[int, ...]
    values: Callable[[], Values]
    packed: Callable[[], bytes] | None = None
    """The stored bytes, where the values cannot be read."""

    def digest(self) -> str:
        """Digest shape and fp32 values, so that equal weights are equal in every format.

        Packed values are digested as bytes.
        """
        if self.packed is not None:
            return hashlib.sha256(
                repr((self.kind, self.shape)).encode() + self.packed()
            ).hexdigest()
        body = np.ascontiguousarray(self.values(), "<f4")
        return hashlib.sha256(repr(body.shape).encode() + body.tobytes()).hexdigest()


def is_derived(name: str) -> bool:
    """Whether a tensor of this name is computed from the configuration, not learned."""
    return _DERIVED.fullmatch(name) is not None


def read_safetensors(path: Path, quantisation: str | None) -> Iterator[Tensor]:
    """Yield the tensors of a safetensors file under their own names.

    Args:
        path: the file.
        quantisation: how the folder is quantised; then integers are packed values, not numbers.

    Raises:
        UserError: the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _HEADER_LIMIT):
            what = f"its header says {length} bytes, the file has {size}"
            raise UserError(f"not a whole safetensors file: {what}", where=str(path), fix=_FIX)
        try:
            header = json.loads(file.read(length))
            entries = sorted((n, e) for n, e in header.items() if n != "__metadata__")
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            what = "not a safetensors file: its header is not a JSON object of tensors"
            raise UserError(what, where=str(path), fix=_FIX) from error
    for name, entry in entries:
        kind, shape, start, end = _entry(path, name, entry)
        if 8 + length + end > size:
            what = f"truncated: tensor {name} ends at byte {8 + length + end}, the file has {size}"
            raise UserError(what, where=str(path), fix=_FIX)
        known = _FLOATS if quantisation else {**_FLOATS, **_INTEGERS}
        if kind in known:
            wanted = math.prod(shape) * np.dtype(known[kind]).itemsize
            if end - start != wanted:
                what = f"tensor {name} has {end - start} bytes, its shape needs {wanted}"
                raise UserError(what, where=str(path))
            yield Tensor(name, kind, shape, _numbers(path, known[kind], 8 + length + start, shape))
        else:
            refused = UserError(f"cannot dequantise {quantisation or kind} yet", where=str(path))
            packed = _bytes(path, 8 + length + start, end - start)
            yield Tensor(name, kind, shape, _refusal(refused), packed)


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        sound = isinstance(kind, str) and isinstance(shape, list) and 0 <= start <= end
        if sound and all(type(n) is int and n >= 0 for n in (start, end, *shape)):
            return kind, tuple(shape), start, end
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(
        f"not a safetensors file: tensor {name} has an invalid description", where=str(path)
    )


def _numbers(path: Path, kind: str, at: int, shape: tuple[int, ...]) -> Callable[[], Values]:
    def read() -> Values:
        if not math.prod(shape):
            return np.zeros(shape, np.float32)
        raw = np.memmap(path, kind, "r", offset=at, shape=shape)
        if kind == _FLOATS["BF16"]:
            return (np.asarray(raw).astype("<u4") << 16).view("<f4")
        return np.asarray(raw, np.float32)

    return read


def _bytes(path: Path, at: int, length: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(at)
            return file.read(length)

    return read


def _refusal(error: UserError) -> Callable[[], Values]:
    def refuse() -> Values:
        raise error

    return refuse
