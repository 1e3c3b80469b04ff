"""Framed events between engine child and supervisor, through a pipe or through ssh.

A frame is ``b"FQ1\\n"``, the header's length (uint32, little-endian), the header (JSON, UTF-8) and
the raw little-endian arrays that ``header["arrays"]`` lists as ``[name, dtype, shape]``. The
supervisor reads frames from a process that runs foreign code, so every length is bounded before it
is believed.
"""

import json
import struct
from typing import IO, Any

import numpy as np
import numpy.typing as npt

PROTOCOL_VERSION = 2
MAGIC = b"FQ1\n"
MAX_HEADER = 256 << 20
MAX_ARRAYS = 1 << 30
_DTYPES = {"<f4", "<i4"}

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
        listing = [(str(n), str(d), tuple(int(x) for x in s)) for n, d, s in header.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"unreadable header: {error}") from error
    arrays: Arrays = {}
    for name, dtype, shape in listing:
        size = 4 * int(np.prod(shape, dtype=object)) if shape else 4
        if dtype not in _DTYPES or min(shape, default=0) < 0 or size > MAX_ARRAYS:
            raise ProtocolError(f"array {name!r} of {dtype} {shape} is not allowed")
        arrays[name] = np.frombuffer(_exactly(stream, size), dtype).reshape(shape)
    return header, arrays


def _exactly(stream: IO[bytes], size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = stream.read(size)
        if not part:
            raise ProtocolError("the stream ended inside a frame")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
