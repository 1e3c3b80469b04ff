"""Frames between child and supervisor: what goes in comes out, and nothing else is believed."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from runner.engines.protocol import MAGIC, MAX_HEADER, ProtocolError, read_frame, write_frame

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
_ARRAYS = st.dictionaries(
    st.text(min_size=1),
    arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=2, min_side=0, max_side=5))
    | arrays_of.arrays(np.int32, arrays_of.array_shapes(max_dims=2, min_side=0, max_side=5)),
    max_size=3,
)


@given(st.dictionaries(st.text().filter(lambda k: k != "arrays"), _JSON), _ARRAYS)
def test_a_frame_comes_out_as_it_went_in(header: dict[str, Any], arrays: dict[str, Any]) -> None:
    stream = io.BytesIO()
    write_frame(stream, header, arrays)
    write_frame(stream, {"next": 1})
    stream.seek(0)
    found = read_frame(stream)
    assert found is not None
    assert found[0] == header
    assert found[1].keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[1][name], array)
    assert read_frame(stream) == ({"next": 1}, {})
    assert read_frame(stream) is None


@given(st.binary(min_size=1, max_size=200))
def test_foreign_bytes_are_refused_and_never_crash(noise: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_frame(io.BytesIO(noise))


@given(st.binary(max_size=60))
def test_a_frame_with_a_foreign_body_is_refused(body: bytes) -> None:
    framed = MAGIC + struct.pack("<I", len(body)) + body
    with pytest.raises(ProtocolError):
        read_frame(io.BytesIO(framed))


def test_a_frame_cut_off_anywhere_is_refused() -> None:
    stream = io.BytesIO()
    write_frame(stream, {"a": 1}, {"x": np.zeros(4, np.float32)})
    whole = stream.getvalue()
    for end in range(1, len(whole)):
        with pytest.raises(ProtocolError):
            read_frame(io.BytesIO(whole[:end]))


@pytest.mark.parametrize(
    "claim",
    [
        b'{"arrays": [["x", "<f4", [1099511627776]]]}',
        b'{"arrays": [["x", "<f4", [200000000]], ["y", "<f4", [200000000]]]}',
        b'{"arrays": [["x", "<f4", [-4]]]}',
        b'{"arrays": [["x", "<f4", [-2, -2]]]}',
        b'{"arrays": [["x", "<f4", [-1, 0]]]}',
        b'{"arrays": [["x", "<f4", [1, 1, 4]]]}',
        b'{"arrays": [["x", "<f4", [Infinity]]]}',
        b'{"arrays": [["x", "<f4", [true]]]}',
        b'{"arrays": [["x", "O", [1]]]}',
        b'{"arrays": [[1, "<f4", [1]]]}',
        b'{"arrays": 3}',
        b'{"no": "arrays"}',
        b"[" * 100_000,
    ],
)
def test_impossible_arrays_are_refused_before_they_are_read(claim: bytes) -> None:
    stream = io.BytesIO(MAGIC + struct.pack("<I", len(claim)) + claim + bytes(64))
    with pytest.raises(ProtocolError):
        read_frame(stream)
    assert len(stream.read()) == 64


def test_a_header_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        read_frame(io.BytesIO(MAGIC + struct.pack("<I", MAX_HEADER + 1)))


class _Pipe(io.BytesIO):
    """Remembers what had been written when it was flushed, which is what the other side has."""

    sent = b""

    def flush(self) -> None:
        self.sent = self.getvalue()


def test_a_frame_is_sent_at_once() -> None:
    pipe = _Pipe()
    write_frame(pipe, {"a": 1}, {"x": np.zeros(4, np.float32)})
    assert read_frame(io.BytesIO(pipe.sent)) is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_lacks_is_never_sent(value: float) -> None:
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="JSON"):
        write_frame(stream, {"value": value})
    assert stream.getvalue() == b""
