"""The numeric rule: KL, bounds, floor, family, and what makes numbers no evidence."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.judging.rules import rules
from tests.analysis.arranged import Halves, arranged
from tests.analysis.bare import bare, view
from tests.analysis.handmade import REQUIRED, Bench, Cell
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import LOGITS, distribution, true_ids, true_logits

Kl = Callable[[list[float], list[float]], dict[str, Any]]


@pytest.fixture(scope="module")
def kl() -> Iterator[Kl]:
    """Compare two distributions (log-probabilities, the tail last) with ``positions.sql``."""
    with bare("sources.rules") as con:

        def compare(p: list[float], q: list[float]) -> dict[str, Any]:
            con.execute(
                "CREATE OR REPLACE TABLE numeric.inputs AS SELECT 'reference' AS kind, "
                "'r' AS run_id, 'c' AS cell_id, 'n' AS node_id, 1 AS attempt, 'logits' AS stage, "
                "'prefill' AS probe, 'x' AS case_id, 0 AS repeat, '' AS other, "
                "0 AS trace_row, NULL::BIGINT AS other_row, "
                "[7] AS kept, "
                "[?::FLOAT[]] AS p_topk, [?::FLOAT] AS p_tail, [[1]] AS p_ids, "
                "[?::FLOAT[]] AS q_topk, [?::FLOAT] AS q_tail, [[1]] AS q_ids",
                [p[:-1], p[-1], q[:-1], q[-1]],
            )
            (row,) = con.sql(view("positions")).to_arrow_table().to_pylist()
            return dict(row)

        yield compare


logs = st.lists(st.floats(-30, 0, width=32), min_size=4, max_size=4)
relaxed = settings(max_examples=25, deadline=None)


def test_a_kept_position_is_counted_in_the_whole_sequence(kl: Kl) -> None:
    assert kl([-0.5, -1.0], [-0.5, -1.0])["position"] == 7


@relaxed
@given(p=logs, q=logs)
def test_kl_is_that_of_the_renormalised_distributions(
    kl: Kl, p: list[float], q: list[float]
) -> None:
    found = kl(p, q)["kl"]
    a, b = (np.exp(np.array(v, np.float64)) for v in (p, q))
    truth = float(stats.entropy(a / a.sum(), b / b.sum()))
    assert found >= 0
    assert found == pytest.approx(max(truth, 0), rel=1e-9, abs=1e-13)


@relaxed
@given(p=logs, shift=st.floats(-5, 5, width=32))
def test_kl_is_zero_for_equal_and_for_shifted_numbers(kl: Kl, p: list[float], shift: float) -> None:
    assert kl(p, p)["kl"] == pytest.approx(0, abs=1e-14)
    shifted = [float(np.float32(v) + np.float32(shift)) for v in p]
    assert kl(p, shifted)["kl"] < 1e-10


@relaxed
@given(p=logs, i=st.integers(0, 2), by=st.floats(0.125, 3, width=32))
def test_kl_is_positive_as_soon_as_one_probability_moves(
    kl: Kl, p: list[float], i: int, by: float
) -> None:
    p = [max(v, -6.0) for v in p]
    moved = [v + by if k == i else v for k, v in enumerate(p)]
    assert kl(p, moved)["kl"] > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_has_no_kl(kl: Kl, bad: float) -> None:
    found = kl([-1.0, -1.0, -2.0], [-1.0, bad, -2.0])
    assert found["nonfinite"]
    assert found["kl"] is None


def test_an_empty_tail_on_both_sides_is_no_defect(kl: Kl) -> None:
    found = kl([-0.5, -1.0, -np.inf], [-0.6, -0.9, -np.inf])
    assert not found["nonfinite"]
    assert found["kl"] > 0


# The verdict


@arranged
def test_equal_numbers_are_qualified_with_their_bounds(bench: Bench) -> Halves:
    bench.attempt.logits(1e-5)
    row = (yield).stage("logits")
    assert row["verdict"] == "qualified"
    assert row["ci_low"] <= row["effect"] <= row["ci_high"] < row["margin"] == 1e-7
    assert row["n"] == 72
    assert row["reference_id"] == "r1:frozen"
    assert row["floor_id"] == "f1:floor"


@arranged
def test_numbers_beyond_margin_and_floor_are_divergent(bench: Bench) -> Halves:
    bench.attempt.logits(0.3)
    found = yield
    row = found.stage("logits")
    assert row["verdict"] == "divergent"
    assert row["ci_low"] > row["margin"]
    assert row["p_value"] < 1e-3
    assert found.cell()["culprit"] == "logits"


@arranged
def test_the_stage_takes_the_worse_of_prefill_and_decode(bench: Bench) -> Halves:
    for case in LOGITS:
        noisy = true_logits(case) + np.random.default_rng(1).normal(0, 0.3, (12, 32))
        bench.attempt.change("logits", case, "decode", **distribution(noisy, true_ids(case)))
    row = (yield).stage("logits")
    assert row["verdict"] == "divergent"
    assert row["explanation"].startswith("decode:")


@arranged
def test_the_worst_case_is_named(bench: Bench) -> Halves:
    bench.attempt.logits(0.1)
    bench.attempt.logits(1.0, cases=("logits/l4",))
    assert (yield).stage("logits")["first_case"] == "logits/l4"


@arranged
def test_above_the_margin_there_is_no_verdict_without_a_good_floor(bench: Bench) -> Halves:
    other = Cell("c1:0002")
    other.only.compute_dtype = "bf16"
    bench.cells.append(other)
    for cell in bench.cells:
        cell.only.logits(0.3)
    bench.floors = 3
    found = yield
    few, none = found.stage("logits"), found.stage("logits", cell="c1:0002")
    assert few["verdict"] == none["verdict"] == "inconclusive"
    assert "3 configurations; 4 are needed" in few["reason"]
    assert "no floor" in none["reason"]
    assert "bf16" in none["reason"]


@arranged
def test_few_configurations_judge_with_the_floors_of_other_models(bench: Bench) -> Halves:
    bench.floors = 5
    bench.attempt.logits(0.3)
    row = (yield).stage("logits")
    assert row["verdict"] == "divergent"
    assert "5 configurations and the floors of other models, 12 degrees" in row["explanation"]


@arranged
def test_within_what_benign_configurations_show_it_is_inconclusive(bench: Bench) -> Halves:
    bench.floor_kl = 0.02
    bench.attempt.logits(0.3)
    row = (yield).stage("logits")
    assert row["verdict"] == "inconclusive"
    assert "benign configurations" in row["reason"]


@arranged
def test_without_a_declared_margin_it_is_inconclusive(bench: Bench) -> Halves:
    bench.cells[0].pass_, bench.cells[0].margin = "deployed", None
    found = yield
    assert found.verdict("logits") == "inconclusive"
    assert "margin" in found.stage("logits")["reason"]


@arranged
def test_bounds_across_the_margin_are_inconclusive(bench: Bench) -> Halves:
    bench.attempt.logits(0.3, cases=LOGITS[:1])
    bench.cells[0].margin = 0.003
    assert (yield).verdict("logits") == "inconclusive"


@arranged
def test_few_cases_are_bounded_by_their_extremes(bench: Bench) -> Halves:
    bench.attempt.logits(0.05)
    found = yield
    row = found.stage("logits", "short")
    cases = found.rows("numeric.cases", "case_id < 'logits/l3' AND probe = 'prefill'")
    assert row["ci_high"] == max(case["max_kl"] for case in cases) > row["effect"]


@arranged
def test_ids_other_than_the_reference_are_no_evidence(bench: Bench) -> Halves:
    bench.attempt.change("logits", "logits/l0", "prefill", prompt_ids=[9, 9])
    row = (yield).stage("logits")
    assert row["verdict"] == "inconclusive"
    assert "reference's ids" in row["reason"]


@arranged
def test_a_declared_bound_makes_a_divergence_expected(bench: Bench) -> Halves:
    entry = {"engine": "llama_cpp", "stage": "logits", "reason": "known kernel"}
    tight = Cell("c1:0002", engine="vllm", kind="vllm")
    bench.cells.append(tight)
    for cell in bench.cells:
        cell.only.logits(0.3)
    bench.expected = [{**entry, "bound": 0.05}, {**entry, "engine": "vllm", "bound": 0.001}]
    found = yield
    assert found.verdict("logits") == "expected"
    assert found.verdict("logits", "c1:0002") == "divergent"


@arranged
def test_a_bound_for_some_cases_excuses_no_others(bench: Bench) -> Halves:
    """The rest is judged without it, and the named cases no further than it reaches."""
    entry = {"stage": "logits", "reason": "known kernel", "bound": 0.05}
    l0, short = {"cases": ["logits/l0"]}, {"tags": ["short"]}
    noisy: dict[str, tuple[str, dict[str, list[str]], dict[str, float]]] = {
        "case": ("expected", l0, {"logits/l0": 0.3}),
        "case-too-far": ("divergent", l0, {"logits/l0": 3.0}),
        "case-and-rest": ("divergent", l0, dict.fromkeys(LOGITS, 0.3)),
        "tag": ("expected", short, dict.fromkeys(LOGITS[:3], 0.3)),
        "tag-and-rest": ("divergent", short, dict.fromkeys(LOGITS, 0.3)),
        "all-tags": ("expected", {"tags": ["short", "long"]}, dict.fromkeys(LOGITS, 0.3)),
    }
    bench.cells = []
    for name, (_, scope, noise) in noisy.items():
        cell = Cell(f"c1:{name}", engine=name)
        for case, size in noise.items():
            cell.only.logits(size, cases=(case,))
        bench.cells.append(cell)
        bench.expected.append({**entry, **scope, "engine": name})
    found = yield
    verdicts = {name: found.verdict("logits", f"c1:{name}") for name in noisy}
    assert verdicts == {name: verdict for name, (verdict, _, _) in noisy.items()}
    assert "1 cases are judged apart" in found.stage("logits", cell="c1:case")["explanation"]
    assert found.stage("logits", "short", "c1:tag")["verdict"] == "expected"
    groups = {row["case_group"] for row in found.rows("verdicts", "stage = 'logits'")}
    assert groups == {"*", "short", "long"}


@arranged
def test_nothing_is_decoded_where_the_reference_says_nothing(bench: Bench) -> Halves:
    bench.silent_cases = ("logits/l0",)
    bench.attempt.drop("logits", "logits/l0", "decode")
    assert (yield).verdict("logits") == "qualified"


# The instrument


def spoiled(bench: Bench, probe: str, **value: float) -> None:
    body = json.dumps({"mass_error": 1e-7, "nonfinite": 0, **value})
    bench.attempt.change("instrument", "logits/l0", probe, value=body)


@arranged
def test_repeats_that_disagree_break_the_instrument_and_not_the_logits(bench: Bench) -> Halves:
    noisy = true_logits("logits/l0") + np.random.default_rng(1).normal(0, 1, (12, 32))
    numbers = distribution(noisy, true_ids("logits/l0"))
    bench.attempt.change("instrument", "logits/l0", "reordered", **numbers)
    bench.attempt.logits(0.3)
    found = yield
    assert found.verdict("instrument") == "divergent"
    assert "asked in another order" in found.stage("instrument")["explanation"]
    assert found.verdict("logits") == "inconclusive"
    assert "the instrument is divergent" in found.stage("logits")["reason"]
    assert found.cell()["culprit"] == "instrument"


@arranged
def test_repeats_within_the_margin_qualify_with_their_effect(bench: Bench) -> Halves:
    near = true_logits("logits/l0") + np.random.default_rng(1).normal(0, 1e-5, (12, 32))
    numbers = distribution(near, true_ids("logits/l0"))
    bench.attempt.change("instrument", "logits/l0", "uncached", **numbers)
    row = (yield).stage("instrument")
    assert row["verdict"] == "qualified"
    assert 0 < row["effect"] < 1e-7


@arranged
def test_probabilities_that_do_not_sum_to_one_break_the_instrument(bench: Bench) -> Halves:
    spoiled(bench, "first", mass_error=0.2)
    found = yield
    assert found.verdict("instrument") == "divergent"
    assert "sum to 1" in found.stage("instrument")["explanation"]


@arranged
def test_a_repeat_that_failed_is_never_a_match(bench: Bench) -> Halves:
    for trace in bench.attempt.find("instrument", "logits/l0", "again"):
        del trace.columns["ref_topk_logprobs"]
        trace.columns |= {"error": "boom", "payload_digest": None}
    assert (yield).verdict("instrument") == "inconclusive"


@arranged
def test_numbers_that_no_instrument_vouches_for_are_no_evidence(bench: Bench) -> Halves:
    """Also where the suite does not require the instrument, and also where they look right."""
    names = ("missing", "failed", "hidden", "far")
    required = [stage for stage in REQUIRED if stage != "instrument"]
    bench.cells = [Cell(f"c1:{name}", required=required) for name in names]
    attempts = dict(zip(names, (cell.only for cell in bench.cells), strict=True))
    for attempt in attempts.values():
        if attempt is not attempts["failed"]:
            attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "instrument"]
    for case in LOGITS[:2]:
        attempts["failed"].fail("instrument", case, "boom")
    star = {"case_id": "*", "stage": "instrument", "probe": "none", "observed": "hidden"}
    attempts["hidden"].traces.append(Trace(star))
    attempts["far"].logits(0.5)
    found = yield
    for name in names:
        assert found.verdict("logits", f"c1:{name}") == "inconclusive"
        assert found.cell(f"c1:{name}")["verdict"] == "inconclusive"
    reasons = {name: found.stage("logits", cell=f"c1:{name}")["reason"] for name in names}
    assert reasons["missing"].startswith(
        "the instrument is inconclusive: the attempt recorded nothing"
    )
    assert "boom" in reasons["failed"]
    assert reasons["hidden"] == "the instrument is not observed: hidden"


@arranged
def test_nan_that_repeats_is_a_fault_of_the_logits(bench: Bench) -> Halves:
    nan = {"ref_topk_logprobs": [[float("nan")] * 4] * 12, "tail_logprob": [float("nan")] * 12}
    for probe in ("first", "again", "reordered", "uncached"):
        spoiled(bench, probe, mass_error=1e308, nonfinite=5)
        bench.attempt.change("instrument", "logits/l0", probe, **nan)
    bench.attempt.change("logits", "logits/l0", None, **nan)
    found = yield
    assert found.verdict("instrument") == "qualified"
    assert found.verdict("logits") == "divergent"
    assert "NaN" in found.stage("logits")["explanation"]
    assert found.stage("logits")["first_case"] == "logits/l0"


@arranged
@pytest.mark.parametrize(("broken", "culprit"), [(True, "weights"), (False, "instrument")])
def test_nan_that_comes_and_goes_breaks_the_instrument_unless_weights_are_broken(
    bench: Bench, broken: bool, culprit: str
) -> Halves:
    nan = {"ref_topk_logprobs": [[float("nan")] * 4] * 12, "tail_logprob": [float("nan")] * 12}
    spoiled(bench, "again", mass_error=1e308, nonfinite=5)
    bench.attempt.change("instrument", "logits/l0", "again", **nan)
    bench.attempt.change("logits", "logits/l0", None, **nan)
    if broken:
        facts = {"type": "F32", "seen_shape": [8], "model_shape": [8], "nonfinite": 3}
        body = json.dumps({**facts, "mismatched": 3})
        bench.attempt.change("weights", "weights/embed.weight", value=body)
    found = yield
    assert found.cell()["culprit"] == culprit
    assert found.verdict("logits") == ("divergent" if broken else "inconclusive")


@arranged
def test_structure_has_the_margin_of_the_rules_where_none_is_declared(bench: Bench) -> Halves:
    bench.cells[0].margin = None
    assert (yield).stage("logits")["margin"] == rules()["structure_margin"] == 1e-7
