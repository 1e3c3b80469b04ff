"""The sampler does what is asked, and nothing else: each measure, both ways."""

import json
from typing import Any

import numpy as np
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench
from tests.analysis.handmade_sampling import (
    PROMPT,
    bring,
    draws,
    first_logits,
    greedy,
    plan_sampling,
    sampled,
    seeds,
)

LOGITS = first_logits()
LIKED = np.isin(np.arange(len(LOGITS)), PROMPT)


def told(found: Judged) -> dict[str, dict[str, Any]]:
    """Return what `sampling_compared` says of each case; of seeds under `case repeat`."""
    rows = found.rows("compared.sampling")
    return {
        row["case_id"].removeprefix("sampling/")
        + (f" {row['repeat']}" if row["probe"] == "seed" else ""): row
        for row in rows
    }


def outcomes(found: Judged) -> dict[str, str]:
    return {name: row["outcome"] for name, row in told(found).items()}


def drawn(
    bench: Bench,
    name: str,
    asked: dict[str, Any],
    applied: dict[str, Any],
    *,
    logits: np.ndarray = LOGITS,
    late: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Ask for one thing and let the engine apply another."""
    case_id = plan_sampling(bench, name, "draws", **asked)
    return draws(bench.attempt, case_id, sampled(logits, applied, late=late), logits, **more)


# Draws


@arranged
def test_draws_from_what_was_asked_are_never_rejected(bench: Bench) -> Halves:
    """Whatever the request, the engine's order of its parts, and the seed."""
    asked: dict[str, dict[str, Any]] = {
        "nothing": {},
        "warm": {"temperature": 1.4},
        "cold": {"temperature": 0.5},
        "zero": {"temperature": 0},
        "top-k": {"top_k": 5},
        "top-p": {"top_p": 0.9},
        "min-p": {"min_p": 0.1},
        "all": {"temperature": 1.3, "top_k": 30, "top_p": 0.9, "min_p": 0.02},
        "penalty": {"repetition_penalty": 1.5},
    }
    for name, what in asked.items():
        for seed in range(3):
            logits = first_logits(seed) + 3 * LIKED
            drawn(bench, f"{name}/{seed}", what, what, logits=logits, seed=seed)
            if what.get("temperature", 1) not in (0, 1):
                drawn(bench, f"{name}/{seed}/late", what, what, logits=logits, late=True)
    hot = {"temperature": 1.5, "min_p": 0.1}
    drawn(bench, "hot", hot, hot, n=1000)
    drawn(bench, "hot/late", hot, hot, n=1000, late=True)
    bias = {7: 4.0, int(LOGITS.argmax()): -100.0}
    drawn(bench, "bias", {"logit_bias": {"x": 1}}, {"bias": bias}, bias=bias)
    found = yield
    assert set(outcomes(found).values()) == {"match"}
    row = found.stage("sampling")
    assert row["verdict"] == "qualified"
    assert "with power 0.99" in row["explanation"]
    assert "temperature last" in told(found)["hot/late"]["detail"]
    assert "temperature last" not in told(found)["hot"]["detail"]


UNASKED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"temperature": 0.8}, "fits temperature 0.8, asked 1"),
    ({"temperature": 0.6}, {}, "fits the request without its temperature"),
    ({}, {"temperature": 0}, "looks greedy"),
    (
        {},
        {"min_p": 0.05},
        "no draw of any token below 0.05 of the most probable, which hold 32 % of the mass: "
        "looks like min_p",
    ),
    ({}, {"top_k": 40}, "only the 40 most probable occur"),
    ({}, {"top_p": 0.95}, "looks like top_p 0.95"),
    ({"top_k": 5}, {}, "are tokens that the request excludes"),
    ({"top_p": 0.9}, {}, "fits the request without its top_p"),
    ({"min_p": 0.1}, {}, "fits the request without its min_p"),
    ({}, {"temperature": 1.5, "top_k": 10}, "fits temperature 1.5, asked 1, and top_k 10"),
]


@arranged
@pytest.mark.parametrize(("asked", "applied", "says"), UNASKED)
def test_what_was_not_asked_is_seen_and_named(
    bench: Bench, asked: dict[str, Any], applied: dict[str, Any], says: str
) -> Halves:
    drawn(bench, "case", asked, applied, n=1000)
    found = yield
    assert outcomes(found) == {"case": "mismatch"}
    assert says in found.stage("sampling")["explanation"]
    assert found.stage("sampling")["effect"] > 0.02


@arranged
def test_a_bias_that_was_not_applied_is_seen(bench: Bench) -> Halves:
    drawn(bench, "case", {"logit_bias": {"x": 5}}, {}, bias={7: 5.0})
    row = (yield).stage("sampling")
    assert row["verdict"] == "divergent"
    assert "without its logit_bias" in row["explanation"]


@arranged
def test_a_penalty_on_the_prompt_that_was_not_applied_is_seen(bench: Bench) -> Halves:
    asked = {"repetition_penalty": 2.0}
    logits = LOGITS + 4 * LIKED
    drawn(bench, "case", asked, {}, logits=logits, n=2000)
    assert outcomes((yield)) == {"case": "mismatch"}


@arranged
def test_a_border_that_rounding_moves_is_left_out(bench: Bench) -> Halves:
    """Two tokens are equal to the last bit, and top_k cuts between them."""
    logits = np.sort(LOGITS)[::-1].copy()
    logits[5] = logits[4]
    p = sampled(logits, {"top_k": 5})
    p[[4, 5]] = p[[5, 4]]
    case_id = plan_sampling(bench, "case", "draws", top_k=5)
    draws(bench.attempt, case_id, p, logits)
    assert outcomes((yield)) == {"case": "match"}


@arranged
def test_of_a_large_vocabulary_the_tail_counts_as_one_token(bench: Bench) -> Halves:
    drawn(bench, "whole", {}, {}, kept=50)
    drawn(bench, "warm", {"temperature": 1.4}, {"temperature": 1.4}, kept=50)
    drawn(bench, "cut", {}, {"top_k": 50}, kept=50)
    drawn(bench, "asked", {"top_k": 10}, {}, kept=50)
    found = outcomes((yield))
    assert found == {"whole": "match", "warm": "match", "cut": "mismatch", "asked": "mismatch"}


@arranged
def test_where_one_token_holds_nearly_all_the_rare_ones_are_counted(bench: Bench) -> Halves:
    peaked = first_logits(3, 0.1)
    peaked[9] += 12
    drawn(bench, "alike", {}, {}, logits=peaked)
    drawn(bench, "warm", {}, {"temperature": 2.5}, logits=peaked)
    assert outcomes((yield)) == {"alike": "match", "warm": "mismatch"}


@arranged
@pytest.mark.parametrize(
    "value",
    [{"counts": {"1": 5}}, {"nonfinite": 3}, {"draws": 20, "counts": {"1": 20}}, {"counts": {}}],
)
def test_draws_that_are_lost_or_stand_beside_nan_are_never_a_match(
    bench: Bench, value: dict[str, Any]
) -> Halves:
    columns = drawn(bench, "case", {}, {})
    columns["value"] = json.dumps(json.loads(columns["value"]) | value)
    assert (yield).verdict("sampling") == "inconclusive"


@arranged
@pytest.mark.parametrize(("bound", "verdict"), [(0.5, "expected"), (0.01, "divergent")])
def test_a_declared_bound_excuses_draws_that_lie_no_further(
    bench: Bench, bound: float, verdict: str
) -> Halves:
    drawn(bench, "case", {}, {"temperature": 0.8})
    bench.expected = [{"stage": "sampling", "bound": bound, "reason": "its default"}]
    assert (yield).verdict("sampling") == verdict


# Greedy


@arranged
def test_the_best_token_each_time_is_greedy_with_what_was_asked(bench: Bench) -> Halves:
    asked: dict[str, dict[str, float]] = {
        "nothing": {},
        "repetition": {"repetition_penalty": 1.3},
        "presence": {"presence_penalty": 1.0},
        "frequency": {"frequency_penalty": 0.5},
    }
    for name, what in asked.items():
        applied = {key.removesuffix("_penalty"): value for key, value in what.items()}
        case_id = plan_sampling(bench, name, "greedy", **what)
        greedy(bench.attempt, case_id, **applied)  # type: ignore[arg-type]  # columns
    case_id = plan_sampling(bench, "too", "greedy", presence_penalty=3.0)
    greedy(bench.attempt, case_id, presence=3.0, prompt_too=True, prompt=[58])
    case_id = plan_sampling(bench, "bias", "greedy", logit_bias={"x": 3})
    greedy(bench.attempt, case_id, bias={11: 3.0})
    found = yield
    assert set(outcomes(found).values()) == {"match"}
    assert "counting the prompt too" in told(found)["too"]["detail"]
    assert found.verdict("sampling") == "qualified"


NOT_BEST: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"repetition": 1.1}, "looks like a repetition penalty that was not requested"),
    ({}, {"repetition": 1.1}, "it fits repetition_penalty 1.1"),
    ({"repetition_penalty": 1.3}, {}, "it fits without the requested penalty"),
    ({"repetition_penalty": 1.3}, {"repetition": 1.3, "reach": 64}, "the last 64 tokens only"),
    ({"repetition_penalty": 1.3}, {"repetition": 1.3, "reach": 0}, "over the answer only"),
    ({"presence_penalty": 1.5}, {}, "it fits without the requested penalty"),
    ({"logit_bias": {"x": 9}}, {}, "although 13 was ahead by"),
]


@arranged
@pytest.mark.parametrize(("asked", "applied", "says"), NOT_BEST)
def test_a_token_that_was_not_the_best_is_seen_and_explained(
    bench: Bench, asked: dict[str, Any], applied: dict[str, Any], says: str
) -> Halves:
    case_id = plan_sampling(bench, "case", "greedy", **asked)
    likely = [int(i) for i in np.random.default_rng(0).integers(0, 64, 100)]
    columns = greedy(bench.attempt, case_id, prompt=likely, **applied)
    if "logit_bias" in asked:
        columns["value"] = json.dumps(json.loads(columns["value"]) | {"bias": {"13": 9.0}})
    row = (yield).stage("sampling")
    assert row["verdict"] == "divergent"
    assert says in row["explanation"]
    assert "at token" in row["explanation"]


@arranged
def test_a_bias_towards_what_was_not_stored_leaves_nothing_to_compare(bench: Bench) -> Halves:
    case_id = plan_sampling(bench, "greedy", "greedy", logit_bias={"x": 9})
    columns = greedy(bench.attempt, case_id)
    columns["value"] = json.dumps(json.loads(columns["value"]) | {"bias": {"11": 9.0}})
    drawn(bench, "draws", {"logit_bias": {"x": 9}}, {}, kept=50, bias={int(LOGITS.argmin()): 9.0})
    assert outcomes((yield)) == {"greedy": "no_truth", "draws": "error"}


@arranged
@pytest.mark.parametrize(
    ("lead", "floors", "verdict"),
    [
        (0.0005, 24, "qualified"),
        (0.005, 24, "qualified"),
        (0.05, 24, "divergent"),
        (0.0005, 0, "qualified"),
        (0.05, 0, "inconclusive"),
        (2.0, 0, "divergent"),
    ],
)
def test_a_tie_is_no_violation(bench: Bench, lead: float, floors: int, verdict: str) -> Halves:
    bench.floors = floors
    case_id = plan_sampling(bench, "case", "greedy")
    columns = greedy(bench.attempt, case_id)
    step = 3
    best, second = columns["top_ids"][step][:2]
    first = columns["ref_topk_logprobs"][step][0]
    columns["ref_topk_logprobs"][step][1] = columns["logprobs"][step] = first - lead
    columns["output_ids"][step] = second
    assert best != second
    assert (yield).verdict("sampling") == verdict


@arranged
@pytest.mark.parametrize("gone", ["output_ids", "top_ids", "logprobs"])
def test_an_answer_without_its_numbers_is_never_a_match(bench: Bench, gone: str) -> Halves:
    case_id = plan_sampling(bench, "case", "greedy")
    greedy(bench.attempt, case_id)[gone] = None
    assert (yield).verdict("sampling") == "inconclusive"


# Seeds

ANSWER = [1, 2, 3] * 6


SEEDED: list[tuple[list[list[int]], float | None, tuple[str, str]]] = [
    ([ANSWER, ANSWER, [1, 4], [5]], -1.0, ("match", "match")),
    ([ANSWER, ANSWER, ANSWER, [5]], -1.0, ("match", "match")),
    ([ANSWER, [1, 2, 9], [1, 4], [5]], -1.0, ("mismatch", "match")),
    ([ANSWER] * 4, -1.0, ("match", "mismatch")),
    ([ANSWER] * 4, -0.01, ("match", "match")),
    ([ANSWER] * 4, None, ("match", "no_truth")),
    ([ANSWER] * 4, float("nan"), ("match", "error")),
]


@arranged
@pytest.mark.parametrize(("answers", "logprob", "outcome"), SEEDED)
def test_seeds_are_honoured(
    bench: Bench, answers: list[list[int]], logprob: float | None, outcome: tuple[str, str]
) -> Halves:
    seeds(bench.attempt, plan_sampling(bench, "case", "seed"), answers, logprob)
    found = yield
    assert outcomes(found) == {"case 1": outcome[0], "case 2": outcome[1]}
    worst = {"mismatch": "divergent", "no_truth": "inconclusive", "error": "inconclusive"}
    verdicts = [worst[o] for o in outcome if o in worst]
    assert found.verdict("sampling") == (verdicts[0] if verdicts else "qualified")
    says = str(told(found)["case 1"]["detail"]) + str(told(found)["case 2"]["detail"])
    assert ("so probable that it repeats by chance" in says) == (logprob == -0.01)
    assert ("the seed seems to be ignored" in says) == (outcome[1] == "mismatch")


@arranged
def test_a_seed_that_was_not_tried_is_never_a_match(bench: Bench) -> Halves:
    case_id = plan_sampling(bench, "case", "seed")
    seeds(bench.attempt, case_id, [ANSWER, ANSWER, [1]], -1.0)
    assert (yield).verdict("sampling") == "inconclusive"


# Missing is never a match


@arranged
@pytest.mark.parametrize("measure", ["draws", "greedy", "seed"])
def test_a_planned_measure_without_a_trace_is_never_a_match(bench: Bench, measure: str) -> Halves:
    plan_sampling(bench, "case", measure)
    assert (yield).verdict("sampling") == "inconclusive"


@arranged
def test_a_parameter_that_the_engine_does_not_have_is_no_gap(bench: Bench) -> Halves:
    drawn(bench, "there", {}, {})
    case_id = plan_sampling(bench, "gone", "greedy", presence_penalty=1.0)
    bring(bench.attempt, case_id, "greedy", observed="absent", error="no such parameter")
    found = yield
    assert found.verdict("sampling") == "qualified"
    assert "not shown: sampling/gone" in found.stage("sampling")["explanation"]


@arranged
def test_a_sampler_that_has_nothing_of_it_is_not_observed(bench: Bench) -> Halves:
    case_id = plan_sampling(bench, "gone", "draws", min_p=0.1)
    bring(bench.attempt, case_id, "draws", observed="absent", error="no such parameter")
    row = (yield).stage("sampling")
    assert (row["verdict"], row["reason"]) == (
        "not_observed",
        "absent: the engine has nothing that the cases ask for",
    )


@arranged
def test_a_measure_that_raised_is_never_a_match(bench: Bench) -> Halves:
    drawn(bench, "there", {}, {})
    case_id = plan_sampling(bench, "raised", "draws")
    bring(bench.attempt, case_id, "*", error="boom")
    row = (yield).stage("sampling")
    assert row["verdict"] == "inconclusive"
    assert "boom" in row["reason"]
