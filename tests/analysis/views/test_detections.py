"""Which case detects what, and at what cost."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.analysis.conftest import Judged
from tests.analysis.handmade import (
    LOGITS,
    Bench,
    distribution,
    runner_up,
    true_ids,
    true_logits,
)
from tests.analysis.handmade_server import count, served

Judge = Callable[[Bench], Judged]


def detecting(found: Judged) -> set[str]:
    rows = found.catalog.rows("SELECT case_id FROM detections WHERE detected")
    return {row["case_id"] for row in rows}


def of(found: Judged, case: str, stage: str) -> dict[str, Any]:
    (row,) = found.catalog.rows(
        "SELECT * FROM detections WHERE case_id = ? AND stage = ?", [case, stage]
    )
    return row


def test_what_agrees_detects_nothing(bench: Bench, judged: Judge) -> None:
    found = judged(bench)
    assert detecting(found) == set()
    assert of(found, "stop/eos", "stop")["compared"]


def test_a_mismatch_detects_and_only_its_own_case(bench: Bench, judged: Judge) -> None:
    bench.attempt.change("template", "template/plain", prompt_text="other")
    bench.attempt.fact("rms_eps", 1e-6)
    bench.attempt.change("chain", "chain/tools", "stream", text="other")
    assert detecting(judged(bench)) == {"template/plain", "config/rms_eps", "chain/tools"}


def test_numbers_detect_alone_above_margin_and_floor_only(bench: Bench, judged: Judge) -> None:
    bench.attempt.logits(0.3, cases=LOGITS[:1])
    assert detecting(judged(bench)) == {LOGITS[0]}
    bench.cells[0].margin = 0.5
    assert detecting(judged(bench)) == set()
    bench.cells[0].margin, bench.floor_kl = 1e-7, 0.5
    assert detecting(judged(bench)) == set()


def test_without_a_floor_numbers_detect_nothing_but_nan(bench: Bench, judged: Judge) -> None:
    bench.floors = 0
    bench.attempt.logits(0.3)
    assert detecting(judged(bench)) == set()
    nan = {"ref_topk_logprobs": [[float("nan")] * 4] * 12, "tail_logprob": [float("nan")] * 12}
    bench.attempt.change("logits", "logits/l2", "decode", **nan)
    assert detecting(judged(bench)) == {"logits/l2"}


def test_numbers_of_a_broken_instrument_detect_nothing(bench: Bench, judged: Judge) -> None:
    bench.attempt.logits(0.3, cases=LOGITS[:1])
    bench.attempt.change("template", "template/plain", prompt_text="other")
    noisy = true_logits(LOGITS[0]) + np.random.default_rng(1).normal(0, 1, (12, 32))
    bench.attempt.change(
        "instrument", LOGITS[0], "again", **distribution(noisy, true_ids(LOGITS[0]))
    )
    found = judged(bench)
    assert not of(found, LOGITS[0], "logits")["detected"]
    assert of(found, "template/plain", "template")["detected"]


def test_what_is_declared_or_a_tie_detects_nothing(bench: Bench, judged: Judge) -> None:
    bench.floor_margin = 0.1
    tied = [4, runner_up("chain/plain", 1)[0], 9]
    bench.attempt.change("chain", "chain/plain", "whole", output_ids=tied, text="other")
    bench.attempt.change("chain", "chain/plain", "stream", text="other")
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    bench.attempt.logits(0.3, cases=LOGITS[:1])
    found = judged(bench)
    assert detecting(found) == {"tokenize/nfd", LOGITS[0]}
    query = "SELECT payload_digest FROM divergences WHERE stage = 'tokenize'"
    (row,) = found.catalog.rows(query)
    bench.expected = [
        {"stage": "tokenize", "signature": row["payload_digest"], "reason": "known"},
        {"stage": "logits", "bound": 0.1, "reason": "known"},
    ]
    assert detecting(judged(bench)) == set()


def test_what_is_missing_was_not_compared_and_detects_nothing(bench: Bench, judged: Judge) -> None:
    bench.attempt.drop("stop", "stop/eos")
    bench.attempt.fail("parse", "parse/call", "boom")
    found = judged(bench)
    for case, stage, probes in (("stop/eos", "stop", 0), ("parse/call", "parse", 2)):
        row = of(found, case, stage)
        assert (row["detected"], row["compared"], row["probes"]) == (False, False, probes)


def test_cost_is_the_time_and_the_tokens_of_the_planned_probes(bench: Bench, judged: Judge) -> None:
    bench.attempt.change("logits", "logits/l0", "prefill", seconds=0.25)
    bench.attempt.change("logits", "logits/l0", "decode", seconds=0.5)
    row = of(judged(bench), "logits/l0", "logits")
    assert row["seconds"] == 0.75
    assert row["tokens"] == 6
    assert of(judged(bench), "logits/l1", "logits")["seconds"] is None


def test_tokens_that_a_server_only_counts_are_counted(bench: Bench, judged: Judge) -> None:
    bench.cells = [served("chat")]
    uncounted = of(judged(bench), "chain/plain", "chain")["tokens"]
    count(bench.attempt, "chain/plain", prompt=20, output=30)
    counted = of(judged(bench), "chain/plain", "chain")["tokens"]
    assert counted - uncounted == (20 + 30) - (2 + 3)
