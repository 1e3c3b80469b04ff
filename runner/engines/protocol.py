"""Frames between supervisor and engine child: one order down, events up, through a pipe or ssh.

A frame is ``b"FQ1\\n"``, the header's length (uint32, little-endian), the header (JSON, UTF-8) and
the raw little-endian arrays that ``header["arrays"]`` lists as ``[name, dtype, shape]``. The
supervisor reads frames from a process that runs foreign code, so every length is checked before
anything of that length is read. What an order or an event holds is declared in ``orders`` and
``events``.
"""

import json
import math
import struct
from typing import IO, Any

import numpy as np
import numpy.typing as npt

PROTOCOL_VERSION = 2
MAGIC = b"FQ1\n"
MAX_HEADER = 256 << 20
MAX_ARRAYS = 1 << 30
_DTYPES = {"<f4", "<i4"}
_MAX_DIMENSIONS = 2

Arrays = dict[str, npt.NDArray[Any]]


class ProtocolError(Exception):
    """What came through the pipe is not a frame of this protocol."""


def write_frame(stream: IO[bytes], header: dict[str, Any], arrays: Arrays | None = None) -> None:
    """Write one frame; float arrays travel as float32, integer arrays as int32."""
    packed = {
        name: np.ascontiguousarray(a, "<f4" if a.dtype.kind == "f" else "<i4")
        for name, a in (arrays or {}).items()
    }
    listing = [[name, a.dtype.str, list(a.shape)] for name, a in packed.items()]
    body = json.dumps({**header, "arrays": listing}, ensure_ascii=False, allow_nan=False)
    encoded = body.encode("utf-8", "surrogatepass")
    stream.write(MAGIC + struct.pack("<I", len(encoded)) + encoded)
    for a in packed.values():
        stream.write(a.tobytes())
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], Arrays] | None:
    """Read one frame; None at a clean end.

    Raises:
        ProtocolError: the bytes are no frame, are cut off, or claim an impossible size.
    """
    magic = stream.read(len(MAGIC))
    if not magic:
        return None
    if magic != MAGIC:
        raise ProtocolError(f"expected a frame, found {magic!r}")
    (length,) = struct.unpack("<I", _exactly(stream, 4))
    if length > MAX_HEADER:
        raise ProtocolError(f"header of {length} bytes is over the limit of {MAX_HEADER}")
    try:
        header = json.loads(_exactly(stream, length).decode("utf-8", "surrogatepass"))
        listing = [_listed(entry) for entry in header.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"unreadable header: {error}") from error
    sizes = [4 * math.prod(shape) for _, _, shape in listing]
    if sum(sizes) > MAX_ARRAYS:
        raise ProtocolError(f"arrays of {sum(sizes)} bytes are over the limit of {MAX_ARRAYS}")
    return header, {
        name: np.frombuffer(_exactly(stream, size), dtype).reshape(shape)
        for (name, dtype, shape), size in zip(listing, sizes, strict=True)
    }


def _listed(entry: Any) -> tuple[str, str, tuple[int, ...]]:
    """Return name, dtype and shape of one announced array; ValueError if they are not allowed."""
    name, dtype, shape = entry
    sound = isinstance(name, str) and dtype in _DTYPES and len(shape) <= _MAX_DIMENSIONS
    # Two negative factors make a positive size.
    if not sound or not all(type(n) is int and 0 <= n <= MAX_ARRAYS for n in shape):
        raise ValueError(f"array {name!r} of {dtype!r} {shape!r} is not allowed"[:200])
    return name, dtype, tuple(shape)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = stream.read(size)
        if not part:
            raise ProtocolError("the stream ended inside a frame")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
