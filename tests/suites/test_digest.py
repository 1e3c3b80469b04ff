"""Digests name content: equal content has one name, any difference another."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suites.digest import canonical_json, file_digest, tagged_digest, tree_digest
from suites.suite import Case, Golden, Suite

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), JSON, max_size=5)


def a_case(**changes: object) -> Case:
    body: dict[str, object] = {
        "id": "chain/sum",
        "stage": "chain",
        "tags": ["numbers"],
        "messages": [{"role": "user", "content": "1 + 2 = ?"}],
    }
    return Case.model_validate(body | changes)


@given(JSON)
def test_canonical_json_says_the_same_and_is_its_own_canonical_form(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(OBJECTS)
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@given(JSON, JSON)
def test_digests_are_equal_just_when_the_canonical_texts_are(one: object, other: object) -> None:
    same = canonical_json(one) == canonical_json(other)
    assert (tagged_digest("x1", one) == tagged_digest("x1", other)) == same


@given(JSON, st.integers(min_value=8, max_value=64))
def test_a_digest_shows_its_tag_and_is_as_long_as_asked(value: object, length: int) -> None:
    tag, _, digits = tagged_digest("k7", value, length).partition(":")
    assert tag == "k7"
    assert len(digits) == length
    assert set(digits) <= set("0123456789abcdef")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": [value]})


def test_names_and_groups_of_a_case_leave_its_digest() -> None:
    assert a_case().digest == a_case(id="chain/renamed", tags=["other", "tags"]).digest


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "1 + 3 = ?"}]},
        {"messages": [{"role": "system", "content": "1 + 2 = ?"}]},
        {"tools": [{"type": "function", "function": {"name": "add"}}]},
        {"template_options": {"enable_thinking": True}},
        {"stop": ["\n"]},
        {"max_tokens": 65},
        {"golden": Golden(text="3")},
        {"script": {"text": "3"}},
        {"stage": "template"},
    ],
)
def test_what_is_asked_or_expected_changes_the_digest_of_a_case(change: dict[str, object]) -> None:
    assert a_case(**change).digest != a_case().digest


def test_a_suites_digest_sees_cases_groups_and_margins_but_not_its_description() -> None:
    def suite(description: str = "", margin: float = 1e-7, **changes: object) -> str:
        return Suite(
            name="s",
            version=1,
            description=description,
            requires=("template",),
            margins={"structure": margin},
            cases=(a_case(**changes),),
        ).digest

    assert suite() == suite(description="other words")
    others = [suite(margin=1e-6), suite(tags=["other"]), suite(max_tokens=9), suite(id="chain/x")]
    assert len({suite(), *others}) == 5


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.data())
def test_one_flipped_bit_changes_the_digest_of_a_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "file"
    path.write_bytes(content)
    before = file_digest(path)
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = content[at] ^ (1 << data.draw(st.integers(0, 7)))
    path.write_bytes(content[:at] + bytes([flipped]) + content[at + 1 :])
    assert file_digest(path) != before


def test_the_digest_of_a_folder_sees_names_and_bytes_of_matching_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = tree_digest(tmp_path, "*.py")
    (tmp_path / "note.txt").write_text("ignored")
    assert tree_digest(tmp_path, "*.py") == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert tree_digest(tmp_path, "*.py") != first
