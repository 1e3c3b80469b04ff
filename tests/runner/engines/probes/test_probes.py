"""What the probes leave of state, sampling and the instrument, by both engines, as it is stored."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.engines.orders import CaseInput
from runner.freeze import freeze
from runner.frozen_sets import verify
from runner.order import WorkOrder
from runner.stored.references import References
from runner.stored.store import Store
from runner.supervisor import execute
from runner.truth import lacks_truth, with_truth
from suites.errors import UserError
from suites.suite import Case, SamplingParameters, Scenario, Suite
from tests.runner.conftest import HELLO, OrderMaker

Traces = list[dict[str, Any]]

#: Threads of torch that wait for each other are slow where the tests share a machine.
_ALONE: dict[str, object] = {"threads": 1}
_COUNT = ({"role": "user", "content": "Count from 3 to 9."},)
_SUM = ({"role": "user", "content": "What is 12 + 7?"},)
_STORY = ({"role": "user", "content": "Tell me a story."},)
_DRAWN = SamplingParameters(temperature=1, top_k=1536, top_p=1, min_p=0, logit_bias={" goat": 3.5})


def _named(name: str) -> tuple[dict[str, str], ...]:
    return (
        {"role": "system", "content": f"Your name is {name}."},
        {"role": "user", "content": "What is your name?"},
    )


def _state(kind: str, messages: Any = HELLO, **scenario: Any) -> Case:
    found = Scenario(kind=kind, **scenario)  # type: ignore[arg-type]  # one of its kinds
    name = f"state/{kind}"
    return Case(id=name, stage="state", messages=messages, max_tokens=24, scenario=found)


def _sampled(name: str, measure: Any, asked: SamplingParameters, messages: Any = _STORY) -> Case:
    return Case(
        id=f"sampling/{name}",
        stage="sampling",
        messages=messages,
        max_tokens=16,
        measure=measure,
        draws=400,
        asked=asked,
    )


SUITE = Suite(
    name="stateful",
    version=1,
    requires=("state", "sampling"),
    cases=(
        Case(id="logits/count", stage="logits", messages=_COUNT, max_tokens=20),
        _state("batched", sizes=(2, 3), beside=(_COUNT, _SUM)),
        _state("chunked", _COUNT, sizes=(3, 8)),
        _state("prefix", _COUNT, beside=(_SUM, _COUNT)),
        _state("reused", beside=(_COUNT, _SUM)),
        _state(
            "concurrent",
            _named("Zuri"),
            sizes=(2,),
            canaries=("Zuri", "Luna", "Milo", "Nova"),
            beside=(_named("Luna"), _named("Milo"), _named("Nova")),
        ),
        _sampled("draws", "draws", _DRAWN),
        _sampled("greedy", "greedy", SamplingParameters(repetition_penalty=1.3)),
        _sampled("presence", "greedy", SamplingParameters(presence_penalty=0.5)),
        _sampled("seed", "seed", SamplingParameters(temperature=1)),
    ),
)


@pytest.fixture(scope="module")
def frozen(make_order: OrderMaker, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("frozen"))
    freeze([make_order("transformers", freeze=True, suite=SUITE, options=_ALONE)], root)
    return root


@pytest.fixture(scope="module", params=["llama_cpp", "transformers"])
def seen(
    request: pytest.FixtureRequest,
    make_order: OrderMaker,
    frozen: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Traces]:
    """An engine, and the traces that it left."""
    options = _ALONE if request.param == "transformers" else None
    order = make_order(request.param, suite=SUITE, references=(frozen,), options=options)
    results = str(tmp_path_factory.mktemp(request.param))
    (outcome,) = execute(order, results)
    assert outcome.status == "ok", outcome.error
    return request.param, Store(results).read(order.run_id, "traces")


def _rows(traces: Traces, case_id: str, probe: str) -> Traces:
    return [row for row in traces if (row["case_id"], row["probe"]) == (case_id, probe)]


def _value(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(row["value"])  # type: ignore[no-any-return]  # an object


def _order(make_order: OrderMaker, *references: str) -> WorkOrder:
    return make_order(suite=SUITE, references=references)


def _child_cases(order: WorkOrder) -> dict[str, CaseInput]:
    found = References(order.references, order.reference_function, order.model.tokenizer_digest)
    return {case.id: with_truth(case, order, found) for case in order.cells[0].suite.cases}


# Truth


def test_what_was_frozen_is_the_input_of_every_case(make_order: OrderMaker, frozen: str) -> None:
    assert verify([frozen]) == []
    cases = _child_cases(_order(make_order, frozen))
    assert {name: lacks_truth(case) for name, case in cases.items()} == dict.fromkeys(cases)
    batched = cases["state/batched"].truth
    assert len(batched.beside) == 2
    assert batched.beside[0][0] == cases["state/prefix"].truth.prompt
    assert len(batched.output) > 3
    drawn = cases["sampling/draws"].truth
    (goat,) = (drawn.bias_ids or {}).values()
    assert goat not in drawn.prompt


def test_without_a_reference_each_case_says_what_it_lacks(make_order: OrderMaker) -> None:
    cases = _child_cases(_order(make_order))
    assert lacks_truth(cases["state/batched"]) == "the token ids of its conversations"
    assert lacks_truth(cases["sampling/greedy"]) == "the prompt's token ids"


def test_a_bias_for_more_than_one_token_has_no_truth(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    case = _sampled("bias", "draws", SamplingParameters(logit_bias={"no such word": 1}))
    suite = SUITE.model_copy(update={"cases": (case,)})
    with pytest.raises(UserError, match=r"sampling/bias: ValueError: logit_bias: 'no such word'"):
        freeze(
            [make_order("transformers", freeze=True, suite=suite, options=_ALONE)], str(tmp_path)
        )


# State


@pytest.mark.parametrize("kind", ["batched", "chunked", "prefix", "reused"])
def test_each_form_of_a_scenario_has_the_numbers_of_alone(
    kind: str, seen: tuple[str, Traces]
) -> None:
    (alone,) = _rows(seen[1], f"state/{kind}", "alone")
    forms = _rows(seen[1], f"state/{kind}", kind)
    assert len(alone["prompt_ids"]) - 1 == len(alone["top_ids"]) == len(alone["logprobs"])
    assert forms
    assert [row["repeat"] for row in forms] == list(range(len(forms)))
    for row in forms:
        start, n = _value(row)["start"], len(row["logprobs"])
        assert n > 3
        assert start + n == len(alone["logprobs"])
        assert _value(row)["nonfinite"] == 0
        np.testing.assert_allclose(
            row["ref_topk_logprobs"], alone["ref_topk_logprobs"][start:], atol=2e-3
        )


def test_a_sequence_stands_once_in_each_row_of_each_batch(seen: tuple[str, Traces]) -> None:
    forms = [_value(row) for row in _rows(seen[1], "state/batched", "batched")]
    places = [(form["size"], form["row"]) for form in forms]
    assert places == [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]


def test_a_repeated_prompt_comes_from_the_cache_and_its_answer_does_not(
    seen: tuple[str, Traces],
) -> None:
    (row,) = _rows(seen[1], "state/prefix", "prefix")
    prompt = len(row["prompt_ids"]) - len(row["output_ids"])
    assert prompt - 1 <= _value(row)["cached"] == _value(row)["start"] <= prompt


def test_canaries_come_back_to_whom_they_belong(seen: tuple[str, Traces]) -> None:
    (alone,) = _rows(seen[1], "state/concurrent", "alone")
    (row,) = _rows(seen[1], "state/concurrent", "concurrent")
    assert row["output_ids"] == alone["output_ids"]
    assert len(alone["top_ids"]) == len(alone["prompt_ids"]) - 1
    texts = [row["text"], *(text for _, text in _value(row)["others"])]
    names = ("Zuri", "Luna", "Milo", "Nova")
    assert [[name for name in names if name in text] for text in texts] == [[n] for n in names]


# Sampling


def test_draws_are_kept_with_the_whole_distribution_that_they_are_drawn_from(
    seen: tuple[str, Traces],
) -> None:
    (row,) = _rows(seen[1], "sampling/draws", "draws")
    value = _value(row)
    assert sum(value["counts"].values()) == value["draws"] == 400
    assert len(value["counts"]) > 10
    ((ids,), (logprobs,)) = row["top_ids"], row["ref_topk_logprobs"]
    assert sorted(ids) == list(range(1536))
    assert logprobs == sorted(logprobs, reverse=True)
    assert np.exp(logprobs).sum() == pytest.approx(1, abs=1e-5)
    ((token, bias),) = value["bias"].items()
    assert bias == 3.5
    assert int(token) in ids


def test_each_greedy_token_has_the_logits_that_it_was_chosen_by(seen: tuple[str, Traces]) -> None:
    (row,) = _rows(seen[1], "sampling/greedy", "greedy")
    assert len(row["output_ids"]) == len(row["top_ids"]) == len(_value(row)["lse"])
    # The penalty changes some tokens, so that not all are the argmax.
    best = [top[0] for top in row["top_ids"]]
    assert 0 < sum(a == b for a, b in zip(best, row["output_ids"], strict=True)) < len(best)


def test_equal_seeds_are_asked_twice_and_two_others_once(seen: tuple[str, Traces]) -> None:
    rows = _rows(seen[1], "sampling/seed", "seed")
    answers = [tuple(row["output_ids"]) for row in rows]
    assert [row["repeat"] for row in rows] == [0, 1, 2, 3]
    assert answers[0] == answers[1]
    assert Counter(_value(row)["seed"] for row in rows).most_common(1)[0][1] == 2
    assert len(set(answers)) > 1


def test_a_parameter_that_an_engine_lacks_is_absent_and_nothing_is_asked(
    seen: tuple[str, Traces],
) -> None:
    (row,) = _rows(seen[1], "sampling/presence", "greedy")
    if seen[0] == "transformers":
        assert (row["observed"], row["payload_digest"]) == ("absent", None)
    else:
        assert row["observed"] == "path"
        assert row["output_ids"]


# The instrument


def test_rows_are_placed_by_what_the_engine_itself_generates(seen: tuple[str, Traces]) -> None:
    rows = [row for row in seen[1] if row["probe"] == "aligned"]
    assert rows[0]["case_id"] == "logits/count"
    assert len(rows) == 3
    for row in rows:
        first, output = _value(row)["first"], row["output_ids"]
        assert len(row["top_ids"]) == first + len(output) + 1
        assert [top[0] for top in row["top_ids"][first:-1]] == output


def test_every_probe_of_the_child_says_how_long_it_took(seen: tuple[str, Traces]) -> None:
    asked = [row for row in seen[1] if row["stage"] != "weights"]
    assert {row["stage"] for row in asked} == {
        *("instrument", "config", "logits", "state", "sampling")
    }
    assert all(row["seconds"] >= 0 for row in asked)
    assert 0 < sum(row["seconds"] for row in asked) < 120
