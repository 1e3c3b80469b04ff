"""What of a candidate is worth putting into the reference's chain, and what is not."""

from typing import Any

import pytest

from runner.engines.orders import Infection
from runner.engines.trace import Trace
from runner.swaps import SwapCandidates
from suites.suite import Case

CASE = Case(id="chain/a", stage="chain", messages=({"role": "user", "content": "Hi"},))


@pytest.fixture
def candidates() -> SwapCandidates:
    return SwapCandidates({CASE.id: CASE})


@pytest.mark.parametrize(
    ("fact", "seen", "model", "kept"),
    [
        ("rope_theta", 10000.0, 500000.0, True),
        ("rope_theta", 500000, 500000.0, False),
        # GGUF stores float32.
        ("rms_eps", 9.999999747378752e-06, 1e-05, False),
        ("eos_ids", [3, 2], [2, 3], False),
        ("eos_ids", [2], [2, 3], True),
        ("rope_theta", 10000.0, None, False),
        ("rope_scaling", {"type": "none"}, {"type": "linear", "factor": 4.0}, True),
        ("rope_scaling", {"type": "llama3"}, {"type": "none"}, False),
        # No model file can carry it into another engine.
        ("layers", 2, 3, False),
    ],
)
def test_a_fact_is_kept_where_it_differs_by_the_rule_of_the_config_stage(
    fact: str, seen: Any, model: Any, kept: bool, candidates: SwapCandidates
) -> None:
    candidates.note_fact(fact, seen, model)
    assert candidates.facts == ({fact: seen} if kept else {})


@pytest.mark.parametrize(
    ("facts", "differs"),
    [
        ({"seen_shape": [2], "model_shape": [2], "mismatched": 0}, False),
        ({"seen_shape": [2], "model_shape": [2], "mismatched": None}, False),
        ({"seen_shape": [2], "model_shape": [2], "mismatched": 1}, True),
        ({"seen_shape": [2], "model_shape": [3]}, True),
        ({"seen_shape": None, "model_shape": [3]}, True),
    ],
)
def test_weights_are_worth_a_swap_where_a_tensor_differs(
    facts: dict[str, Any], differs: bool, candidates: SwapCandidates
) -> None:
    candidates.note_tensor(facts)
    assert candidates.has_other_weights is differs
    candidates.note_tensor({"seen_shape": [2], "model_shape": [2], "mismatched": 0})
    assert candidates.has_other_weights is differs


def test_infections_are_what_the_child_showed_of_a_case_that_it_swapped_stages_in(
    candidates: SwapCandidates,
) -> None:
    whole = Trace("chain", CASE.id, "whole", prompt_text="<Hi>", output_ids=[7, 8])
    candidates.note(whole)
    assert candidates.infections() == []
    candidates.note(Trace("chain", CASE.id, "cure/sampling", value={"script_ids": [7, 9]}))
    (case,) = candidates.infections()
    assert (case.id, case.messages) == (CASE.id, [{"role": "user", "content": "Hi"}])
    assert case.infections == [
        Infection("infect/template", prompt_text="<Hi>"),
        Infection("infect/logits", script=[7, 9]),
        Infection("infect/sampling", script=[7, 8]),
    ]


@pytest.mark.parametrize("ids", ["7", [7, "8"], {"7": 8}])
def test_what_is_no_list_of_ids_is_never_forced(ids: Any, candidates: SwapCandidates) -> None:
    candidates.note(Trace("chain", CASE.id, "whole", output_ids=[7]))
    candidates.note(Trace("chain", CASE.id, "cure/sampling", value={"script_ids": ids}))
    (case,) = candidates.infections()
    assert case.infections == [Infection("infect/sampling", script=[7])]


def test_other_stages_than_the_chain_are_no_candidates(candidates: SwapCandidates) -> None:
    candidates.note(Trace("detokenize", CASE.id, "whole", output_ids=[7]))
    candidates.note(Trace("chain", "chain/unknown", "cure/logits"))
    assert candidates.infections() == []


def test_a_swap_is_new_until_it_has_a_trace(candidates: SwapCandidates) -> None:
    candidates.note(Trace("chain", CASE.id, "whole"))
    candidates.note(Trace("chain", CASE.id, "infect/logits"))
    assert not candidates.note_swap(CASE.id, "infect/logits")
    assert candidates.note_swap(CASE.id, "infect/sampling")
    assert not candidates.note_swap(CASE.id, "infect/sampling")
