"""The shipped suite of scenarios reaches the borders that it names, and its secrets are secret."""

from pathlib import Path
from typing import get_args

import pytest

from suites.loading import load_suite
from suites.model_files import ModelFiles
from suites.suite import Case, JsonObject, Scenario, Suite

CONTEXT = 1024


@pytest.fixture(scope="module")
def state() -> Suite:
    return load_suite("state", Path())


def _prompts(case: Case, truth: ModelFiles) -> list[list[int]]:
    """Return the ids of the case's own prompt and of those beside it."""
    assert case.scenario is not None
    conversations = (case.messages or (), *case.scenario.beside)
    texts = [truth.render(list(m), case.tools, case.template_options) for m in conversations]
    return [truth.encode(text, add_special=False) for text in texts]


def _of_kind(suite: Suite, kind: str) -> list[tuple[Case, Scenario]]:
    found = [(case, case.scenario) for case in suite.cases if case.scenario]
    of_kind = [(case, scenario) for case, scenario in found if scenario.kind == kind]
    assert of_kind, f"no scenario is {kind}"
    return of_kind


def _content(conversation: tuple[JsonObject, ...]) -> str:
    return " ".join(message["content"] for message in conversation)


def test_every_kind_of_scenario_is_asked_and_is_a_group(state: Suite) -> None:
    kinds = get_args(Scenario.model_fields["kind"].annotation)
    assert {case.tags for case in state.cases} == {(kind,) for kind in kinds}
    assert all(case.scenario and case.tags == (case.scenario.kind,) for case in state.cases)
    assert len({case.digest for case in state.cases}) == len(state.cases)


def test_all_that_is_asked_fits_the_context(state: Suite, truth: ModelFiles) -> None:
    for case in state.cases:
        longest = max(len(prompt) for prompt in _prompts(case, truth))
        assert longest + case.max_tokens <= CONTEXT, case.id


def test_every_prompt_is_cut_and_blocks_are_cut_on_and_beside_their_borders(
    state: Suite, truth: ModelFiles
) -> None:
    cuts = set()
    for case, scenario in _of_kind(state, "chunked"):
        length = len(_prompts(case, truth)[0])
        # Some prompts are shorter than their last chunk, but none of their sequences is.
        assert max(scenario.sizes) < length + case.max_tokens, case.id
        cuts |= set(scenario.sizes)
    assert cuts >= {1, 16, 31, 32, 33, 63, 64, 65, 128, 255, 256, 257, 512}
    lengths = [len(_prompts(case, truth)[0]) for case, _ in _of_kind(state, "chunked")]
    assert max(lengths) > 0.8 * CONTEXT


@pytest.mark.parametrize("shared", [64, 256])
def test_prompts_part_at_the_border_of_a_block(
    shared: int, state: Suite, truth: ModelFiles
) -> None:
    (case,) = [case for case in state.cases if case.id == f"state/prefix-{shared}"]
    own, other = _prompts(case, truth)
    assert own[:shared] == other[:shared]
    assert own[shared] != other[shared]


def test_batches_hold_rows_of_different_lengths_and_equal_ones(
    state: Suite, truth: ModelFiles
) -> None:
    lengths = {
        case.id: [len(prompt) for prompt in _prompts(case, truth)]
        for case, _ in _of_kind(state, "batched")
    }
    assert len(set(lengths["state/batched"])) > 3
    assert lengths["state/batched-long"][0] > 5 * max(lengths["state/batched-long"][1:])
    assert len(set(lengths["state/batched-twins"])) == 1


def test_slots_are_used_again_while_others_are_at_work(state: Suite) -> None:
    for _, scenario in _of_kind(state, "concurrent"):
        crowd = len(scenario.beside) + 1
        assert any(1 < slots < crowd for slots in scenario.sizes)


def test_each_canary_is_told_in_one_conversation_only(state: Suite) -> None:
    for case, scenario in _of_kind(state, "concurrent"):
        told = [_content(c) for c in (case.messages or (), *scenario.beside)]
        assert len(scenario.canaries) == len(told) > 1, case.id
        for place, canary in enumerate(scenario.canaries):
            assert [canary in text for text in told] == [i == place for i in range(len(told))]
