"""What holds for every stream that passes a mutation."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engines.faults.gateway.answers import Utf8Broken, decoded_in_pieces
from runner.engines.faults.gateway.base import BrokenOff, ProxyMutationOptions, events_of
from runner.engines.faults.gateway.registry import PROXY_MUTATIONS
from tests.runner.engines.faults.gateway.fake_upstream import events


def _piece(content: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}}]}


pieced = st.lists(st.binary(max_size=20), max_size=12)


@given(pieced)
def test_no_byte_is_lost_where_a_stream_is_cut_into_events(pieces: list[bytes]) -> None:
    assert b"".join(event.raw for event in events_of(pieces)) == b"".join(pieces)


@given(st.lists(st.sampled_from(["data: {}", "data: [DONE]", ": ping", "event: x"]), min_size=1))
def test_events_are_the_same_however_they_arrive(lines: list[str]) -> None:
    for border in ("\n\n", "\r\n\r\n"):
        raw = "".join(line + border for line in lines).encode()
        whole = list(events_of([raw]))
        assert len(whole) == len(lines)
        assert list(events_of(raw[i : i + 1] for i in range(len(raw)))) == whole


@given(st.text(max_size=30), st.integers(1, 9), st.integers(1, 40))
def test_breaking_does_not_depend_on_how_the_stream_arrives(
    text: str, size: int, step: int
) -> None:
    raw = b"".join(events(json.dumps(_piece(text)), _piece("end")))
    mutation = Utf8Broken(ProxyMutationOptions(by=size))
    arriving = (raw[i : i + step] for i in range(0, len(raw), step))
    assert b"".join(mutation.stream(arriving)) == b"".join(mutation.stream([raw]))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40), st.integers(1, 9))
def test_only_characters_over_a_border_break(text: str, size: int) -> None:
    found = decoded_in_pieces(text.encode(), size).decode()
    kept, at = list[str](), 0
    for character in text:
        end = at + len(character.encode())
        if at // size == (end - 1) // size:
            kept.append(character)
        at = end
    assert [c for c in found if c != "\ufffd"] == [c for c in kept if c != "\ufffd"]
    assert (found == text) == (len(kept) == len(text))


def test_what_came_before_a_break_is_handed_out() -> None:
    def broken() -> Iterator[bytes]:
        yield b"data: 1\n\nda"
        raise BrokenOff

    taken = events_of(broken())
    assert [next(taken).raw, next(taken).raw] == [b"data: 1\n\n", b"da"]
    with pytest.raises(BrokenOff):
        next(taken)


def test_events_travel_in_groups() -> None:
    mutation = PROXY_MUTATIONS["regrouped"](ProxyMutationOptions(by=2))
    sent = events(1, 2, 3)
    assert list(mutation.stream(sent)) == [b"".join(sent[:2]), b"".join(sent[2:])]


def test_headers_of_the_proxy_replace_those_of_the_server() -> None:
    told = PROXY_MUTATIONS["renamed"](ProxyMutationOptions()).headers(
        [("Server", "x"), ("Content-Type", "y")]
    )
    assert ("Content-Type", "y") in told
    assert "Server" not in dict(told)
    assert {"Via", "X-Gateway-Id"} <= dict(told).keys()
