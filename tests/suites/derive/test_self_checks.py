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
    assert "the template refuses system-and-user: no system" in suite.notes
    assert "template/user-only" in {case.id for case in suite.cases}
