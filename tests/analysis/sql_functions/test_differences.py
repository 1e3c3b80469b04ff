"""Where two texts part, and what a terminal would hide."""

import json

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.sql_functions.differences import (
    parted,
    printable,
    shown_difference,
    text_parts,
    token_parts,
    visible,
)
from analysis.sql_functions.messages import canonical_message
from analysis.sql_functions.registered import register
from analysis.sql_functions.versions import version_in
from runner.stored.canonical import canonical_fact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 🙂 \\", "plain é 🙂 \\\\"),
        ("a\\nb", "a\\\\nb"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31m\x00", "\\u{001b}[31m\\u{0000}"),
        ("e\u0301", "e\\u{0301}"),
        ("a\u00a0b\u200b\u202e", "a\\u{00a0}b\\u{200b}\\u{202e}"),
    ],
)
def test_what_a_terminal_hides_is_spelt_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_combining_character_is_marked_with_its_base() -> None:
    at, expected, seen = text_parts("un caf\u00e9.", "un cafe\u0301.")
    assert (at, str(expected), str(seen)) == (6, "un caf⟦é⟧.", "un caf⟦e\\u{0301}⟧.")


def test_only_what_differs_is_marked() -> None:
    _, expected, seen = text_parts("<s>user: hi</s>", "<s>user:  hi</s>")
    assert (str(expected), str(seen)) == ("<s>user: ⟦⟧hi</s>", "<s>user: ⟦ ⟧hi</s>")


@pytest.mark.parametrize(
    ("expected", "seen", "shown"),
    [
        ([1, 2, 3], [1, 2, 9], ("1 2 ⟦3⟧", "1 2 ⟦9⟧")),
        ([1, 2], [1, 2, 9], ("1 2 ⟦end⟧", "1 2 ⟦9⟧")),
        ([1], [1, 1], ("1 ⟦end⟧", "1 ⟦1⟧")),
    ],
)
def test_tokens_are_marked_one_by_one(
    expected: list[int], seen: list[int], shown: tuple[str, str]
) -> None:
    _, left, right = token_parts(expected, seen)
    assert (str(left), str(right)) == shown


def test_answers_with_several_aspects_part_at_each() -> None:
    aspects = parted('{"text":"a","finish_reason":"stop"}', '{"text":"a","finish_reason":null}')
    assert [(a.name, str(a.seen)) for a in aspects] == [("finish_reason", "⟦null⟧")]


def test_messages_part_field_by_field() -> None:
    aspects = parted(
        '{"message":{"content":"","tool_calls":[{"name":"f"}]},"finish_reason":"tool_calls"}',
        '{"message":{"content":"<f>","tool_calls":[]},"finish_reason":"tool_calls"}',
    )
    assert [a.name for a in aspects] == ["content", "tool_calls"]
    assert str(aspects[0].seen) == "⟦<f>⟧"


def test_a_message_that_is_none_is_shown_as_the_text_it_is() -> None:
    aspects = parted('{"message":{"content":"a"}}', '{"message":"{\\"content\\": 5"}')
    assert [a.name for a in aspects] == ["message"]
    assert str(aspects[0].seen) == '{"content": ⟦5⟧'


def test_a_prompt_that_happens_to_be_json_stays_a_text() -> None:
    (aspect,) = parted('{"city":"Bonn"}', '{"city":"Berlin"}')
    assert (aspect.name, aspect.unit) == ("", "character")


def test_one_line_tells_where_ids_part() -> None:
    assert shown_difference("[1,5]", "[1,1,5]") == "at token 1 expected '1 ⟦5⟧', seen '1 ⟦1⟧ 5'"


def test_a_line_break_and_a_literal_backslash_n_do_not_look_equal() -> None:
    _, expected, seen = text_parts("a\nb", "a\\nb")
    assert str(expected) != str(seen)
    assert printable(str(seen)) == str(seen)


def test_differing_json_keeps_the_backslashes_that_json_gave_it() -> None:
    (aspect,) = parted(
        '{"message":{"tool_calls":[{"arguments":"{\\"a\\":1}"}]}}',
        '{"message":{"tool_calls":[]}}',
    )
    assert '\\"a\\"' in str(aspect.expected)
    assert "\\\\" not in str(aspect.expected)


# What engines write is untrusted: no text may make a function raise inside SQL.

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.just("\ud83d")
    | st.sampled_from(["[" * 5000, '{"a":' * 5000, "1e999", "9" * 5000, "NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "tool_calls", "function", "arguments", "name", "text"])
            | st.sampled_from(["message", "output_ids", "finish_reason", "\ud800"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
HARD = ["[" * 100_000, '{"a":' * 100_000, "1e999", "Infinity", "NaN", "9" * 5000, '"\\ud83d"', ""]
TEXTS = st.text(st.characters(codec="utf-8")) | st.sampled_from(HARD) | JSON.map(json.dumps)


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_no_text_makes_a_function_raise_or_return_what_sql_cannot_hold(a: str, b: str) -> None:
    for fact in ("eos_ids", "rope_theta"):
        canonical_fact(fact, a).encode()
    json.loads(canonical_message(a, b))
    canonical_message(a, b).encode()
    shown_difference(a, b).encode()
    assert version_in(a, b) in (True, False)


@pytest.mark.parametrize("text", HARD)
def test_hard_texts_pass_through_sql(text: str) -> None:
    with duckdb.connect(":memory:") as con:
        register(con)
        said = con.execute(
            "SELECT canonical_fact('f', $1) = canonical_fact('f', $1), "
            "canonical_message($1, $1)::JSON IS NOT NULL, shown_difference($1, $1 || 'x')",
            [text],
        ).fetchall()
    assert said[0][:2] == (True, True)


@pytest.mark.parametrize("calls", ["5", '"f"', '{"name": "f"}', "[5, null]", "true"])
def test_tool_calls_of_any_shape_can_be_compared(calls: str) -> None:
    text = f'{{"content": null, "tool_calls": {calls}}}'
    assert canonical_message(text, text) == canonical_message(text, text)
    assert canonical_message(text, "{}") != canonical_message('{"content": "x"}', "{}")
