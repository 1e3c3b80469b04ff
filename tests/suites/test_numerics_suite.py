"""The shipped suite of distributions has the lengths that it names, and fits the context."""

from pathlib import Path

import pytest

from suites.loading import load_suite
from suites.model_files import ModelFiles
from suites.suite import Case, Suite

CONTEXT = 1024
BORDERS = (64, 128, 256, 512)
POSITIONS = 8000


@pytest.fixture(scope="module")
def numerics() -> Suite:
    return load_suite("numerics", Path())


def _length(case: Case, truth: ModelFiles) -> int:
    if case.text is not None:
        return len(truth.encode(case.text, add_special=True))
    text = truth.render(case.messages or (), case.tools, case.template_options)
    return len(truth.encode(text, add_special=False))


def test_raw_texts_have_just_as_many_tokens_as_their_ids_say(
    numerics: Suite, truth: ModelFiles
) -> None:
    named = [case for case in numerics.cases if "length" in case.tags]
    lengths = {_length(case, truth) for case in named}
    assert {f"numerics/length-{length}" for length in lengths} == {case.id for case in named}
    assert lengths >= {border + beside for border in BORDERS for beside in (-1, 0, 1)}
    assert max(lengths) == CONTEXT - 1


def test_prompt_and_answer_fit_the_context(numerics: Suite, truth: ModelFiles) -> None:
    for case in numerics.cases:
        assert _length(case, truth) + case.max_tokens <= CONTEXT, case.id


def test_answers_are_decoded_over_the_borders_of_blocks(numerics: Suite, truth: ModelFiles) -> None:
    over = "numerics/decode-over-"
    crossing = {int(c.id.removeprefix(over)): c for c in numerics.cases if c.id.startswith(over)}
    assert set(crossing) == {32, *BORDERS}
    for border, case in crossing.items():
        length = _length(case, truth)
        assert length < border < length + case.max_tokens, case.id


def test_there_are_positions_enough_and_no_case_twice(numerics: Suite, truth: ModelFiles) -> None:
    assert sum(_length(case, truth) - 1 for case in numerics.cases) >= POSITIONS
    assert len({case.digest for case in numerics.cases}) == len(numerics.cases)
    assert {case.stage for case in numerics.cases} == {"logits"}
    assert all(case.tags for case in numerics.cases)
