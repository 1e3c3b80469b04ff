"""Which case detects what, and at what cost."""

from typing import Any

import numpy as np
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench
from tests.analysis.handmade_server import count, served
from tests.analysis.handmade_truth import LOGITS, distribution, runner_up, true_ids, true_logits


def detecting(found: Judged) -> set[str]:
    return {row["case_id"] for row in found.rows("detections", "detected")}


def of(found: Judged, case: str, stage: str) -> dict[str, Any]:
    (row,) = found.rows("detections", f"case_id = '{case}' AND stage = '{stage}'")
    return row


@arranged
def test_what_agrees_detects_nothing(bench: Bench) -> Halves:
    found = yield
    assert detecting(found) == set()
    assert of(found, "stop/eos", "stop")["compared"]


@arranged
def test_a_mismatch_detects_and_only_its_own_case(bench: Bench) -> Halves:
    bench.attempt.change("template", "template/plain", prompt_text="other")
    bench.attempt.fact("rms_eps", 1e-6)
    bench.attempt.change("chain", "chain/tools", "stream", text="other")
    assert detecting((yield)) == {"template/plain", "config/rms_eps", "chain/tools"}


@arranged
@pytest.mark.parametrize(
    ("margin", "floor_kl", "detected"),
    [(1e-7, 1e-9, {LOGITS[0]}), (0.5, 1e-9, set()), (1e-7, 0.5, set())],
)
def test_numbers_detect_alone_above_margin_and_floor_only(
    bench: Bench, margin: float, floor_kl: float, detected: set[str]
) -> Halves:
    bench.attempt.logits(0.3, cases=LOGITS[:1])
    bench.cells[0].margin, bench.floor_kl = margin, floor_kl
    assert detecting((yield)) == detected


@arranged
@pytest.mark.parametrize("nan", [False, True])
def test_without_a_floor_numbers_detect_nothing_but_nan(bench: Bench, nan: bool) -> Halves:
    bench.floors = 0
    bench.attempt.logits(0.3)
    if nan:
        none = [float("nan")]
        columns = {"ref_topk_logprobs": [none * 4] * 12, "tail_logprob": none * 12}
        bench.attempt.change("logits", "logits/l2", "decode", **columns)
    assert detecting((yield)) == ({"logits/l2"} if nan else set())


@arranged
def test_numbers_of_a_broken_instrument_detect_nothing(bench: Bench) -> Halves:
    bench.attempt.logits(0.3, cases=LOGITS[:1])
    bench.attempt.change("template", "template/plain", prompt_text="other")
    noisy = true_logits(LOGITS[0]) + np.random.default_rng(1).normal(0, 1, (12, 32))
    bench.attempt.change(
        "instrument", LOGITS[0], "again", **distribution(noisy, true_ids(LOGITS[0]))
    )
    found = yield
    assert not of(found, LOGITS[0], "logits")["detected"]
    assert of(found, "template/plain", "template")["detected"]


@arranged
@pytest.mark.parametrize("is_declared", [False, True])
def test_what_is_declared_or_a_tie_detects_nothing(bench: Bench, is_declared: bool) -> Halves:
    bench.floor_margin = 0.1
    tied = [4, runner_up("chain/plain", 1)[0], 9]
    bench.attempt.change("chain", "chain/plain", "whole", output_ids=tied, text="other")
    bench.attempt.change("chain", "chain/plain", "stream", text="other")
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    bench.attempt.logits(0.3, cases=LOGITS[:1])
    if is_declared:
        signature = bench.attempt.signature("tokenize", "tokenize/nfd")
        bench.expected = [
            {"stage": "tokenize", "signature": signature, "reason": "known"},
            {"stage": "logits", "bound": 0.1, "reason": "known"},
        ]
    assert detecting((yield)) == (set() if is_declared else {"tokenize/nfd", LOGITS[0]})


@arranged
def test_what_is_missing_was_not_compared_and_detects_nothing(bench: Bench) -> Halves:
    bench.attempt.drop("stop", "stop/eos")
    bench.attempt.fail("parse", "parse/call", "boom")
    found = yield
    for case, stage, probes in (("stop/eos", "stop", 0), ("parse/call", "parse", 2)):
        row = of(found, case, stage)
        assert (row["detected"], row["compared"], row["probes"]) == (False, False, probes)


@arranged
def test_cost_is_the_time_and_the_tokens_of_the_planned_probes(bench: Bench) -> Halves:
    bench.attempt.change("logits", "logits/l0", "prefill", seconds=0.25)
    bench.attempt.change("logits", "logits/l0", "decode", seconds=0.5)
    found = yield
    row = of(found, "logits/l0", "logits")
    assert row["seconds"] == 0.75
    assert row["tokens"] == 6
    assert of(found, "logits/l1", "logits")["seconds"] is None


@arranged
def test_tokens_that_a_server_only_counts_are_counted(bench: Bench) -> Halves:
    bench.cells = [served("few"), served("many")]
    count(bench.cells[1].only, "chain/plain", prompt=20, output=30)
    rows = (yield).rows("detections", "case_id = 'chain/plain' AND stage = 'chain'")
    tokens = {row["cell_id"]: row["tokens"] for row in rows}
    assert tokens["c1:many"] - tokens["c1:few"] == (20 + 30) - (2 + 3)
