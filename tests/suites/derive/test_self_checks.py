"""A template shows faults of its own, without any truth beside it."""

import pytest

from suites.derive import derive_suite
from tests.suites.derive.conftest import CHATML, TINY_CHAT, ModelMaker


def test_the_shipped_template_has_none_of_them() -> None:
    assert derive_suite(TINY_CHAT, name="tiny").notes == (
        "the template does not take content in parts: servers have to join them",
    )


@pytest.mark.parametrize(
    ("found", "old", "new"),
    [
        ("the template trims the texts of users", "m.content", "m.content | trim"),
        ("a text of the user is in the prompt 0 times", "m.content", "m.content | e"),
        ("a text of the user is in the prompt 2 times", "m.content", "m.content + m.content"),
        (
            "the prompt of a later turn does not begin with the prompt of the turn before it",
            "'<|role|>' + m.role",
            "loop.revindex | string + m.role",
        ),
        ("<think> is not closed as often as it is opened", "m.content", "'<think>' + m.content"),
    ],
)
def test_a_fault_of_the_template_is_noted(
    model: ModelMaker, found: str, old: str, new: str
) -> None:
    assert old in CHATML
    notes = derive_suite(model(CHATML.replace(old, new)), name="faulty").notes
    assert any(found in note for note in notes), notes


def test_what_a_template_refuses_is_noted_with_its_words(model: ModelMaker) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    suite = derive_suite(model(strict + CHATML), name="strict")
    (note,) = (note for note in suite.notes if "refuses" in note)
    assert note.startswith("the template refuses system-and-user, many-turns, ")
    assert note.endswith(": no system")
    cases = {case.id: case for case in suite.cases}
    assert cases["template/refused-system-and-user"].golden.refused == "no system"
    assert "template/refused-many-turns" not in cases, "one case for each message"
    asked = cases["template/many-turns"].messages
    assert asked is not None
    assert asked[0]["role"] == "user", "what is refused with a system turn is asked without it"


def test_an_error_in_a_template_is_noted_and_is_no_case(model: ModelMaker) -> None:
    broken = CHATML.replace("m.content", "m.content + (1 if loop.length > 3 else '')")
    suite = derive_suite(model(broken), name="broken")
    assert not any(case.golden.refused for case in suite.cases)
    assert any("can only concatenate str" in note for note in suite.notes)
