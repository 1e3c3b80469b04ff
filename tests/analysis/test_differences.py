"""Where two texts part, and what a terminal would hide."""

import pytest

from analysis.differences import parted, shown_difference, text_parts, token_parts, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 🙂 \\", "plain é 🙂 \\"),
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


def test_a_prompt_that_happens_to_be_json_stays_a_text() -> None:
    (aspect,) = parted('{"city":"Bonn"}', '{"city":"Berlin"}')
    assert (aspect.name, aspect.unit) == ("", "character")


def test_one_line_tells_where_ids_part() -> None:
    assert shown_difference("[1,5]", "[1,1,5]") == "at token 1 expected '1 ⟦5⟧', seen '1 ⟦1⟧ 5'"
