"""Evidence of `state` that is damaged, incomplete or NaN is never a match, and ends nothing."""

import json
from typing import Any

import numpy as np
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench
from tests.analysis.handmade_state import CANARIES, alone_logits, among, change, plan_state


def outcomes(found: Judged, kind: str) -> dict[int, str]:
    rows = found.rows("compared.state", f"probe = '{kind}'")
    return {row["repeat"]: row["outcome"] for row in rows}


def answers(*texts: str | None) -> dict[str, str]:
    others = [[[1], text] for text in texts]
    return {"value": json.dumps({"size": 3, "row": 0, "others": others})}


@arranged
@pytest.mark.parametrize(
    "columns",
    [
        {"value": json.dumps({"size": 3, "row": 0})},
        {"value": json.dumps({"size": 3, "row": 0, "others": "none"})},
        answers("I keep otter-22"),
        answers("I keep otter-22", None),
        answers("I keep otter-22", "I keep lynx-33", "I keep nothing"),
        {"text": None},
    ],
)
def test_an_answer_that_cannot_be_searched_for_secrets_is_an_error(
    bench: Bench, columns: dict[str, Any]
) -> Halves:
    plan_state(bench, "concurrent")
    change(bench.attempt, "concurrent", 1, **columns)
    found = yield
    assert outcomes(found, "concurrent") == {0: "match", 1: "error"}
    assert found.verdict("state") == "inconclusive"


@arranged
def test_a_secret_is_found_beside_an_answer_that_is_missing(bench: Bench) -> Halves:
    plan_state(bench, "concurrent")
    change(bench.attempt, "concurrent", 1, **answers(f"I keep {CANARIES[0]}", None))
    found = yield
    assert outcomes(found, "concurrent")[1] == "mismatch"
    assert found.rows("compared.state", "leak")


@arranged
@pytest.mark.parametrize("secret", ["\u6771\u4eac", 'say "heron"'])
def test_a_secret_that_json_writes_otherwise_is_found(bench: Bench, secret: str) -> Halves:
    plan_state(bench, "concurrent")
    bench.more_cases["state/concurrent"]["scenario"]["canaries"] = [secret, "b-2", "c-3"]
    change(bench.attempt, "concurrent", 1, **answers("I keep b-2", f"I keep {secret}"))
    assert outcomes((yield), "concurrent")[1] == "mismatch"


@arranged
def test_no_bound_excuses_nan(bench: Bench) -> Halves:
    """The other positions agree to the bit: their mean is 0 and within every bound."""
    plan_state(bench, "batched")
    broken = alone_logits("batched")
    broken[40] = np.nan
    change(bench.attempt, "batched", 0, **among("batched", 0, broken))
    bench.expected = [{"stage": "state", "bound": 1e-3, "reason": "batch rounding"}]
    found = yield
    assert found.verdict("state") == "divergent"
    (row,) = found.rows("compared.state", "outcome = 'mismatch'")
    assert row["effect"] is None


WRONG = ["x", -1, 1e30, [], {}, True]


@arranged
@pytest.mark.parametrize("wrong", WRONG)
def test_counts_that_are_none_are_an_error_and_judging_goes_on(
    bench: Bench, wrong: object
) -> Halves:
    plan_state(bench, "batched", "chunked", "prefix", "concurrent")
    logits = alone_logits("chunked")
    logits[40:] += 1
    change(bench.attempt, "chunked", 0, **among("chunked", 0, logits))
    for kind, name in (("batched", "row"), ("chunked", "size"), ("prefix", "start")):
        (trace, *_) = bench.attempt.find("state", f"state/{kind}", kind)
        value = json.loads(trace.columns["value"]) | {name: wrong}
        change(bench.attempt, kind, 0, value=json.dumps(value))
    others = {"size": 2, "nonfinite": wrong, "others": [[[1], "a"], [[1], "b"]]}
    change(bench.attempt, "concurrent", 0, value=json.dumps(others))
    found = yield
    assert outcomes(found, "batched") == {0: "error", 1: "match", 2: "match"}
    assert outcomes(found, "chunked") == {0: "error", 1: "match"}
    assert outcomes(found, "prefix") == {0: "error"}
    assert outcomes(found, "concurrent") == {0: "error", 1: "match"}


@arranged
@pytest.mark.parametrize("size", [0, None])
def test_a_size_that_is_none_is_an_error(bench: Bench, size: int | None) -> Halves:
    plan_state(bench, "chunked")
    logits = alone_logits("chunked")
    logits[40:] += np.random.default_rng(1).normal(0, 1, logits[40:].shape)
    change(bench.attempt, "chunked", 0, **among("chunked", 0, logits, size=size))
    assert outcomes((yield), "chunked") == {0: "error", 1: "match"}


@arranged
@pytest.mark.parametrize("value", ["nothing", "[]", "{", "7"])
def test_a_value_that_is_no_object_is_an_error(bench: Bench, value: str) -> Halves:
    plan_state(bench, "batched")
    change(bench.attempt, "batched", 0, value=value)
    assert outcomes((yield), "batched")[0] == "error"


@arranged
@pytest.mark.parametrize("canaries", ["x", {"a": 1}, [None, "b", "c"]])
def test_secrets_that_cannot_be_read_are_an_error(bench: Bench, canaries: object) -> Halves:
    plan_state(bench, "concurrent")
    bench.more_cases["state/concurrent"]["scenario"]["canaries"] = canaries
    assert set(outcomes((yield), "concurrent").values()) == {"error"}
