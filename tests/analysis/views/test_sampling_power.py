"""What the tests of a sampler cannot show is no match: borders, flat distributions, seeds, ties."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.sql_functions.statistics import (
    binomial_p,
    binomial_power,
    binomial_upper_tail,
    chi2_power,
    chi2_upper_tail,
)
from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench
from tests.analysis.handmade_sampling import (
    KEPT,
    PROMPT,
    VOCABULARY,
    bring,
    draws,
    first_logits,
    forced,
    greedy,
    plan_sampling,
    sampled,
    seeds,
)
from tests.analysis.handmade_truth import distribution

LOGITS = first_logits()
ORDER = np.argsort(-LOGITS, kind="stable")
NAN = float("nan")


def told(found: Judged, name: str, repeat: int = 0) -> dict[str, Any]:
    where = f"case_id = 'sampling/{name}' AND repeat = {repeat}"
    (row,) = found.rows("compared.sampling", where)
    return row


def outcomes(found: Judged) -> list[str]:
    return [row["outcome"] for row in found.rows("compared.sampling")]


# Borders


@arranged
def test_draws_that_all_fall_on_a_tie_at_the_border_are_rejected(bench: Bench) -> Halves:
    """top_k ends between two tokens that are a tie; nothing but the second of them is drawn."""
    logits = LOGITS.copy()
    logits[ORDER[5]] = logits[ORDER[4]] - 5e-4
    case_id = plan_sampling(bench, "case", "draws", top_k=5)
    only = np.eye(VOCABULARY)[ORDER[5]]
    draws(bench.attempt, case_id, only, logits)
    row = told((yield), "case")
    assert row["outcome"] == "mismatch"
    assert "500 of 500 draws lie on the border" in row["detail"]


@arranged
def test_draws_from_the_tail_alone_are_rejected_at_a_low_temperature(bench: Bench) -> Halves:
    """What was not stored has an unknown share at T, but none above a bound."""
    tail = np.zeros(VOCABULARY)
    tail[ORDER[100:]] = 1 / 100
    case_id = plan_sampling(bench, "case", "draws", temperature=0.7)
    draws(bench.attempt, case_id, tail, LOGITS, kept=100)
    assert told((yield), "case")["outcome"] == "mismatch"


@arranged
def test_the_tail_of_a_flat_distribution_is_within_its_bound(bench: Bench) -> Halves:
    for seed in range(3):
        logits = first_logits(seed, 0.4)
        for warmth in (0.5, 0.9):
            case_id = plan_sampling(bench, f"{seed}/{warmth}", "draws", temperature=warmth)
            p = sampled(logits, {"temperature": warmth})
            draws(bench.attempt, case_id, p, logits, kept=150, n=2000, seed=seed)
    assert set(outcomes((yield))) == {"match"}


@arranged
def test_where_most_draws_cannot_be_tested_there_is_no_truth(bench: Bench) -> Halves:
    """Above temperature 1 nothing bounds what the tail holds."""
    logits = first_logits(3, 0.3)
    case_id = plan_sampling(bench, "case", "draws", temperature=1.5)
    draws(bench.attempt, case_id, sampled(logits, {"temperature": 1.5}), logits, kept=40)
    found = yield
    assert told(found, "case")["outcome"] == "no_truth"
    assert found.verdict("sampling") == "inconclusive"


@arranged
def test_a_top_p_that_an_unknown_tail_moves_is_no_mismatch(bench: Bench) -> Halves:
    logits = first_logits(3, 1.2)
    for warmth, top_p in ((2.0, 0.95), (1.5, 0.7), (1.3, 0.9)):
        asked = {"temperature": warmth, "top_p": top_p}
        for kept in (40, 130):
            for late in (False, True):
                case_id = plan_sampling(bench, f"{warmth}/{kept}/{late}", "draws", **asked)
                p = sampled(logits, asked, late=late)
                draws(bench.attempt, case_id, p, logits, n=2000, kept=kept)
    assert set(outcomes((yield))) == {"match", "no_truth"}


@arranged
def test_only_ties_of_the_best_are_right_at_temperature_zero(bench: Bench) -> Halves:
    logits = LOGITS.copy()
    logits[ORDER[1]] = logits[ORDER[0]]
    tied, other = (plan_sampling(bench, name, "draws", temperature=0) for name in ("tied", "other"))
    draws(bench.attempt, tied, np.eye(VOCABULARY)[ORDER[1]], logits)
    draws(bench.attempt, other, np.eye(VOCABULARY)[ORDER[2]], logits)
    found = yield
    assert told(found, "tied")["outcome"] == "match"
    assert told(found, "other")["outcome"] == "mismatch"


# Power


@arranged
def test_rare_tokens_are_tested_together(bench: Bench) -> Halves:
    """No token is expected five times, and the engine draws in the opposite order."""
    flat = np.random.default_rng(2).normal(0, 0.7, VOCABULARY)
    for name, p in (("right", sampled(flat, {})), ("wrong", sampled(-flat, {}))):
        case_id = plan_sampling(bench, name, "draws")
        draws(bench.attempt, case_id, p, flat, n=200)
    found = yield
    assert told(found, "right")["outcome"] == "match"
    assert told(found, "wrong")["outcome"] == "mismatch"
    (degrees,) = {row["degrees"] for row in found.rows("numeric.draw_tests", "n = 200")}
    assert degrees > 8


@arranged
def test_draws_too_few_for_two_bins_show_nothing(bench: Bench) -> Halves:
    flat = np.random.default_rng(2).normal(0, 0.7, VOCABULARY)
    case_id = plan_sampling(bench, "case", "draws")
    bench.more_cases[case_id]["draws"] = 6
    draws(bench.attempt, case_id, sampled(-flat, {}), flat, n=6)
    row = told((yield), "case")
    assert (row["outcome"], row["detail"]) == ("no_truth", "6 draws are too few to show anything")


@arranged
def test_a_bias_that_leaves_one_token_and_is_not_applied_is_seen(bench: Bench) -> Halves:
    bias = {7: 100.0}
    for name, applied in (("obeyed", {"bias": bias}), ("ignored", {})):
        case_id = plan_sampling(bench, name, "draws", logit_bias={"x": 100})
        draws(bench.attempt, case_id, sampled(LOGITS, applied), LOGITS, n=100, bias=bias)
    found = yield
    assert told(found, "obeyed")["outcome"] == "match"
    assert told(found, "obeyed")["detectable"] > 0
    assert told(found, "ignored")["outcome"] == "mismatch"


@arranged
def test_the_weakest_of_all_tests_speaks_for_them(bench: Bench) -> Halves:
    draws(bench.attempt, plan_sampling(bench, "draws", "draws"), sampled(LOGITS, {}), LOGITS)
    seeds(bench.attempt, plan_sampling(bench, "seed", "seed"), [[1, 2]] * 4, -0.01)
    row = (yield).stage("sampling")
    assert row["verdict"] == "qualified"
    assert "so probable that it repeats by chance" in row["explanation"]


@pytest.mark.parametrize(("n", "share"), [(500, 0.0), (500, 0.02), (2000, 0.3)])
def test_the_stated_power_of_counting_is_that_of_the_binomial(n: int, share: float) -> None:
    more = share + binomial_power(n, share, 1e-6, 0.99)
    critical = next(c for c in range(n + 1) if stats.binom.sf(c - 1, n, share) <= 0.5e-6)
    assert stats.binom.sf(critical - 1, n, more) == pytest.approx(0.99)
    assert binomial_power(3, 0.5, 1e-6, 0.99) == np.inf


@pytest.mark.parametrize(("degrees", "n"), [(1, 100), (16, 500), (60, 2000)])
def test_the_stated_power_is_that_of_the_noncentral_chi2(degrees: int, n: int) -> None:
    w = chi2_power(degrees, n, 1e-6, 0.99)
    critical = stats.chi2.isf(1e-6, degrees)
    assert stats.ncx2.sf(critical, degrees, n * w * w) == pytest.approx(0.99)
    assert chi2_upper_tail(critical, degrees) == pytest.approx(1e-6)


@given(st.floats(), st.floats(), st.floats(), st.floats())
def test_the_tails_are_total(a: float, b: float, c: float, d: float) -> None:
    for p in (chi2_upper_tail(a, b), binomial_p(a, b, c), binomial_upper_tail(a, b, c)):
        assert math.isnan(p) or 0 <= p <= 1
    assert chi2_power(a, min(b, 1e6), c, d) > 0
    assert binomial_power(a, b, c, d) >= 0


# What is no number


def test_the_tails_of_what_is_no_number_are_none() -> None:
    assert np.isnan(chi2_upper_tail(NAN, 3))
    assert np.isnan(chi2_upper_tail(3, NAN))
    assert np.isnan(binomial_p(NAN, 10, 0.5))
    assert np.isnan(binomial_p(11, 10, 0.5))
    assert np.isnan(binomial_upper_tail(1, 10, NAN))
    assert chi2_upper_tail(np.inf, 3) == 0


@arranged
@pytest.mark.parametrize("wrong", [NAN, float("inf")])
def test_draws_beside_numbers_that_are_none_are_an_error(bench: Bench, wrong: float) -> Halves:
    """Also where the probe itself counted no such number."""
    case_id = plan_sampling(bench, "case", "draws")
    columns = draws(bench.attempt, case_id, np.full(VOCABULARY, 1 / VOCABULARY), LOGITS)
    columns["ref_topk_logprobs"][0][100] = wrong
    assert told((yield), "case")["outcome"] == "error"


# Greedy


@arranged
def test_a_token_that_was_not_stored_may_be_the_best_of_the_penalised(bench: Bench) -> Halves:
    """All stored ones were penalised below the last of them, so that an unknown one leads."""
    case_id = plan_sampling(bench, "case", "greedy", presence_penalty=30.0)
    row = np.arange(64, 0, -1) / 10
    output = list(range(KEPT + 1))
    rows = np.tile(row, (len(output), 1))
    bring(bench.attempt, case_id, "greedy", **forced(rows, output, PROMPT))
    assert told((yield), "case")["outcome"] == "no_truth"


@arranged
def test_greedy_beside_nan_is_an_error(bench: Bench) -> Halves:
    case_id = plan_sampling(bench, "case", "greedy")
    greedy(bench.attempt, case_id)["ref_topk_logprobs"][3][2] = NAN
    assert told((yield), "case")["outcome"] == "error"


# Seeds


def seeded(bench: Bench, name: str, leads: float, **asked: Any) -> None:
    """Let four seeds give the best token of three possible ones, 18 times."""
    case_id = plan_sampling(bench, name, "seed", **asked)
    rows = np.full((18, 8), -20.0)
    rows[:, :3] = [leads, 0.0, -0.1]
    columns: dict[str, Any] = {"prompt_ids": PROMPT, "output_ids": [0] * 18}
    for repeat in range(4):
        more = distribution(rows) if repeat == 0 else {}
        bring(bench.attempt, case_id, "seed", repeat=repeat, **columns, **more)


@arranged
def test_an_ignored_seed_is_seen_where_it_can_be_told(bench: Bench) -> Halves:
    asked: list[tuple[float, dict[str, Any], str]] = [
        (0.5, {"temperature": 0.7}, "mismatch"),
        (6.0, {"temperature": 0.7}, "match"),
        (0.5, {"temperature": 1.5}, "mismatch"),
        (9.0, {"temperature": 1.5}, "no_truth"),
        (0.5, {"temperature": 0.7, "top_k": 2}, "no_truth"),
        (6.0, {"temperature": 0.7, "top_k": 2}, "match"),
        (0.5, {"presence_penalty": 1.0}, "no_truth"),
        (0.5, {"logit_bias": {"x": 1}}, "no_truth"),
    ]
    for i, (leads, what, _) in enumerate(asked):
        seeded(bench, f"case{i}", leads, **what)
    found = yield
    seen = [told(found, f"case{i}", 2)["outcome"] for i in range(len(asked))]
    assert seen == [outcome for _, _, outcome in asked]


# What no probe would write


def each(name: str, *values: Any) -> list[dict[str, Any]]:
    return [{name: value} for value in values]


@arranged
def test_draws_that_cannot_be_read_are_an_error(bench: Bench) -> Halves:
    values: list[Any] = [
        *each("counts", "x", [1], None, {"x": 3}, {"1": "x"}, {"01": 5}),
        *each("counts", *each("1", -5, 1e30, None, [], {})),
        *each("bias", "x", [1], {"x": 1.0}, {"1": "x"}, {"1": NAN}),
        *each("draws", "x", None, 1e400, -1, [], {}, True),
        *each("nonfinite", "x", -1, 1e30, []),
        "nothing",
        [],
    ]
    for i, value in enumerate(values):
        case_id = plan_sampling(bench, f"case{i}", "draws")
        columns = draws(bench.attempt, case_id, sampled(LOGITS, {}), LOGITS)
        whole = json.loads(columns["value"]) | value if isinstance(value, dict) else value
        columns["value"] = json.dumps(whole)
    asked: list[dict[str, Any]] = [
        {"temperature": "x"},
        {"top_p": -1},
        {"top_k": 1.0e30},
        {"repetition_penalty": 0},
    ]
    for i, what in enumerate(asked):
        case_id = plan_sampling(bench, f"asked{i}", "draws", **what)
        draws(bench.attempt, case_id, sampled(LOGITS, {}), LOGITS)
    found = yield
    assert outcomes(found) == ["error"] * (len(values) + len(asked))
    assert found.verdict("sampling") == "inconclusive"


@arranged
def test_greedy_answers_that_cannot_be_read_are_an_error(bench: Bench) -> Halves:
    values: list[dict[str, Any]] = [
        *each("lse", "x", None, [], [1.0], ["x"] * 40, [NAN] * 40, {}),
        *each("bias", "x", [1], {"x": 1.0}, {"1": "x"}, {"3000000000": 1.0}),
        {"nonfinite": "x"},
    ]
    for i, value in enumerate(values):
        columns = greedy(bench.attempt, plan_sampling(bench, f"case{i}", "greedy"))
        columns["value"] = json.dumps(json.loads(columns["value"]) | value)
    assert outcomes((yield)) == ["error"] * len(values)
