"""What a case is asked with: golden text first, then what is frozen, and nothing malformed."""

import json
from typing import Any

import pytest

from runner.engines.orders import Truth
from runner.truth import lacks_truth, question, with_truth
from suites.suite import Case, Golden, Scenario, Script
from tests.runner.conftest import HELLO, OrderMaker

TOKENIZE = Case(
    id="tokenize/a", stage="tokenize", messages=HELLO, golden=Golden(prompt_text="golden prompt")
)
STOP = Case(id="stop/a", stage="stop", script=Script(text="x"), golden=Golden(script_ids=(4, 5)))
STATE = Case(
    id="state/a", stage="state", messages=HELLO, scenario=Scenario(kind="reused", beside=(HELLO,))
)
LOGITS = Case(id="logits/a", stage="logits", messages=HELLO)


class FakeReferences:
    """Finds the same frozen trace for every case and probe."""

    def __init__(self, **trace: Any) -> None:
        self.trace = trace

    def find(self, *_: object) -> dict[str, Any]:
        return self.trace


def _truth(make_order: OrderMaker, case: Case, *, golden: bool = True, **frozen: Any) -> Truth:
    order = make_order().model_copy(update={"golden_model": golden})
    return with_truth(case, order, FakeReferences(**frozen)).truth  # type: ignore[arg-type]  # a fake


def test_golden_text_comes_before_a_reference_and_only_for_its_own_model(
    make_order: OrderMaker,
) -> None:
    frozen = json.dumps({"text": "frozen prompt", "script_ids": [7]})
    assert _truth(make_order, TOKENIZE, value=frozen) == Truth(prompt_text="golden prompt")
    assert _truth(make_order, STOP, value=frozen) == Truth(script_ids=[4, 5])
    other = _truth(make_order, TOKENIZE, golden=False, value=frozen)
    assert other == Truth(prompt_text="frozen prompt")
    assert _truth(make_order, STOP, golden=False, value=frozen) == Truth(script_ids=[7])


def test_a_frozen_sequence_is_parted_into_prompt_and_output(make_order: OrderMaker) -> None:
    sequence: dict[str, Any] = {
        "prompt_ids": [1, 2, 3],
        "output_ids": [3],
        "top_ids": [[2], [3]],
        "value": '{"beside_ids": [[[4], [5]]]}',
    }
    forced = {"prompt_ids": [1, 2], "output_ids": [3], "top_ids_prefill": [[2], [3]]}
    assert _truth(make_order, STATE, **sequence) == Truth(beside_ids=[([4], [5])], **forced)
    assert _truth(make_order, LOGITS, **sequence) == Truth(top_ids_decode=[[2], [3]], **forced)


@pytest.mark.parametrize("case", [TOKENIZE, STOP, STATE, LOGITS], ids=lambda case: case.stage)
def test_without_any_truth_every_case_lacks_its_input(case: Case) -> None:
    assert lacks_truth(question(case))


@pytest.mark.parametrize(
    "value", ["{", "[1]", '{"beside_ids": [[1]]}', '{"beside_ids": [[["4"], [5]]]}']
)
def test_a_malformed_reference_is_an_error_and_never_asked_with(
    value: str, make_order: OrderMaker
) -> None:
    frozen = {"prompt_ids": [1, 2], "output_ids": [2], "top_ids": [[2]], "value": value}
    with pytest.raises(ValueError, match="its frozen reference is malformed"):
        _truth(make_order, STATE, **frozen)
