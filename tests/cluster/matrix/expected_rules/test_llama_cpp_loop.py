"""The chat loop of llama-cpp-python on forced bytes: where it ends, and what its stream shows."""

from dataclasses import replace

import pytest

from cluster.matrix.expected_rules.llama_cpp_loop import Loop

PARTS = "京".encode()


def loop(*pieces: bytes, stops: tuple[str, ...] = (), limit: int | None = None) -> Loop:
    """Return a loop over tokens of these bytes; an empty one ends the answer."""
    return Loop(
        pieces=pieces,
        ends=tuple(not piece for piece in pieces),
        stops=tuple(stop.encode() for stop in stops),
        limit=len(pieces) if limit is None else limit,
    )


@pytest.mark.parametrize(
    ("asked", "whole"),
    [
        (loop(b"The ", b"river", b""), ("The river", "stop")),
        (loop(b"The ", b"river"), ("The river", "length")),
        (loop(b"The ", b"river", b"", limit=1), ("The ", "length")),
        (loop(b"The ", b"river", b"", stops=("iv",)), ("The r", "stop")),
        (loop(b"The ", b"river", b"", stops=("er", "iv")), ("The riv", "stop")),
        (loop(b"Go ", PARTS[:2], PARTS[2:], b" now", b""), ("Go 京 now", "stop")),
        # It waits for as many tokens as bytes are missing, also where one token brings them all.
        (loop(b"Go ", PARTS[:1], PARTS[1:], b" n", b" w", b"", limit=3), ("Go 京 n", "length")),
        (loop(b"Go ", PARTS[:2]), None),
    ],
)
def test_a_whole_answer_ends_where_the_engine_ends_it(
    asked: Loop, whole: tuple[str, str] | None
) -> None:
    assert asked.answer(stream=False) == whole


def test_an_answer_cut_at_the_earliest_string_is_another_one() -> None:
    asked = loop(b"The ", b"river", b"", stops=("er", "iv"))
    assert replace(asked, first_listed=False).answer(stream=False) == ("The r", "stop")


def test_a_stream_spells_the_whole_answer() -> None:
    asked = loop(b"A ", PARTS[:2], PARTS[2:], b" and more", b" text", b"", stops=("mo!",))
    assert asked.answer(stream=True) == asked.answer(stream=False)


def test_a_stream_that_ends_with_a_held_back_character_loses_it() -> None:
    asked = loop(b"A ", PARTS[:1], PARTS[1:], b"")
    assert asked.answer(stream=False) == ("A 京", "stop")
    assert asked.answer(stream=True) == ("A ", "stop")


def test_a_stream_does_not_show_what_begins_a_stop_string() -> None:
    asked = loop(b"The ", b"ri", b"ver", b"", stops=("iv",))
    assert asked.answer(stream=True) == ("The r", "stop")
