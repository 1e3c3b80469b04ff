"""Whether the numbers are there, and stand where they say."""

import json

import numpy as np
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.handmade import Bench, Cell
from tests.analysis.handmade_truth import LOGITS, aligned_answer, true_ids

ASKED = LOGITS[:2]
REPEATS = ("first", "again", "reordered", "uncached")


@arranged
@pytest.mark.parametrize(("shift", "where"), [(-1, "before"), (1, "after")])
def test_rows_that_stand_one_off_break_the_instrument(
    bench: Bench, shift: int, where: str
) -> Halves:
    for case_id in ASKED:
        bench.attempt.change("instrument", case_id, "aligned", **aligned_answer(case_id, shift))
    found = yield
    row = found.stage("instrument")
    assert row["verdict"] == "divergent"
    assert "its numbers are shifted by one position" in row["explanation"]
    assert f"the row {where} it 100 %" in row["explanation"]
    assert [row["shift"] for row in found.rows("numeric.shifts")] == [shift]
    assert found.verdict("logits") == "inconclusive"


@arranged
def test_an_answer_that_no_row_predicts_is_not_the_instruments_fault(bench: Bench) -> Halves:
    for case_id in ASKED:
        answer = aligned_answer(case_id)["output_ids"]
        other = [(token + 7) % 32 for token in answer]
        bench.attempt.change("instrument", case_id, "aligned", output_ids=other)
    assert (yield).verdict("instrument") == "qualified"


@arranged
def test_an_answer_that_repeats_itself_shows_no_shift(bench: Bench) -> Halves:
    for case_id in ASKED:
        rows = [[5, 6, 7, 8]] * 12
        bench.attempt.change("instrument", case_id, "aligned", top_ids=rows, output_ids=[5] * 10)
    assert (yield).verdict("instrument") == "qualified"


@arranged
def test_a_few_other_tokens_are_no_shift(bench: Bench) -> Halves:
    """Benign flips of an answer that agrees elsewhere: 3 of 20 tokens."""
    for case_id in ASKED:
        answer = aligned_answer(case_id)["output_ids"]
        changed = [
            (t + 7) % 32 if i < 2 - (case_id == ASKED[0]) else t for i, t in enumerate(answer)
        ]
        bench.attempt.change("instrument", case_id, "aligned", output_ids=changed)
    assert (yield).verdict("instrument") == "qualified"


@arranged
def test_without_an_own_answer_nothing_vouches_for_the_positions(bench: Bench) -> Halves:
    bench.cells = [Cell("c1:short"), Cell("c1:none"), Cell("c1:failed")]
    short, none, failed = (cell.only for cell in bench.cells)
    for case_id in ASKED:
        short.change("instrument", case_id, "aligned", output_ids=[5])
        none.drop("instrument", case_id, "aligned")
        (trace,) = failed.find("instrument", case_id, "aligned")
        for name in ("output_ids", "top_ids", "value"):
            del trace.columns[name]
        trace.columns |= {"error": "boom"}
    found = yield
    reasons = {
        name: found.stage("instrument", cell=f"c1:{name}") for name in ("short", "none", "failed")
    }
    assert {row["verdict"] for row in reasons.values()} == {"inconclusive"}
    assert "too few to show" in reasons["short"]["reason"]
    assert reasons["none"]["reason"] == "only 4 of 5 repeats answered"
    assert "boom" in reasons["failed"]["reason"]


@arranged
def test_log_probabilities_that_are_all_zero_break_the_instrument(bench: Bench) -> Halves:
    """Also where the probe itself says that all is well."""
    zeros = {"ref_topk_logprobs": [[0.0] * 4] * 12, "tail_logprob": [0.0] * 12}
    for probe in REPEATS:
        bench.attempt.change("instrument", ASKED[0], probe, **zeros)
    row = (yield).stage("instrument")
    assert row["verdict"] == "divergent"
    assert "sum to 1 ± 4" in row["explanation"]


@arranged
def test_logits_that_were_never_computed_break_the_instrument(bench: Bench) -> Halves:
    """Zeros for logits are a distribution: the same for every token. Their mass is one."""
    flat = {"ref_topk_logprobs": [[-np.log(32)] * 4] * 12, "tail_logprob": [np.log(28 / 32)] * 12}
    for probe in REPEATS:
        bench.attempt.change("instrument", ASKED[0], probe, **flat)
    found = yield
    assert found.verdict("instrument") == "divergent"
    assert "that is no distribution" in found.stage("instrument")["explanation"]


@arranged
def test_flat_logits_of_broken_weights_are_left_to_the_weights(bench: Bench) -> Halves:
    flat = {"ref_topk_logprobs": [[-np.log(32)] * 4] * 12, "tail_logprob": [np.log(28 / 32)] * 12}
    for probe in REPEATS:
        bench.attempt.change("instrument", ASKED[0], probe, **flat)
    facts = {"type": "F32", "seen_shape": [8], "model_shape": [8], "nonfinite": 3, "mismatched": 3}
    bench.attempt.change("weights", "weights/embed.weight", value=json.dumps(facts))
    found = yield
    assert found.verdict("instrument") == "qualified"
    assert found.cell()["culprit"] == "weights"


def test_the_clean_answer_is_what_its_rows_predict() -> None:
    for case_id in ASKED:
        assert aligned_answer(case_id)["output_ids"] == true_ids(case_id)[1:-1, 0].tolist()


@arranged
@pytest.mark.parametrize(
    ("probe", "value"),
    [
        *(("first", {"nonfinite": wrong}) for wrong in ("x", -3, 1e30, [])),
        ("again", {"nonfinite": "x"}),
        ("first", {"mass_error": "x"}),
        *(("aligned", {"first": wrong}) for wrong in ("x", -1, 9.2e18, None)),
    ],
)
def test_numbers_about_numbers_that_are_none_vouch_for_nothing(
    bench: Bench, probe: str, value: dict[str, object]
) -> Halves:
    for case_id in ASKED:
        bench.attempt.change("instrument", case_id, probe, value=json.dumps(value))
    found = yield
    assert found.verdict("instrument") == "inconclusive"
    assert "cannot be read" in found.stage("instrument")["reason"]
