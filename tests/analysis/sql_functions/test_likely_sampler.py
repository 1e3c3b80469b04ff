"""What the draws of an unknown sampler look like."""

import json
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analysis.judging.rules import rules
from analysis.sql_functions.likely_sampler import likely_sampler
from tests.analysis.handmade_sampling import (
    first_logits,
    sampled,
)

LOGITS = first_logits()


def hint(ids: list[int], logprobs: list[float], value: str, asked: str) -> str:
    names = ("hint_least_p", "min_expected_draws", "hint_alike")
    least_p, least_expected, alike = (float(rules()[name]) for name in names)
    return likely_sampler(ids, logprobs, value, asked, least_p, least_expected, alike)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(2, 60))
def test_the_hint_never_names_a_setting_that_forbids_what_was_drawn(seed: int, cut: int) -> None:
    p = sampled(LOGITS, {"top_k": cut})
    found = np.random.default_rng(seed).choice(len(p), 400, p=p)
    counts = {str(i): int(n) for i, n in enumerate(np.bincount(found)) if n}
    logprobs = (LOGITS - np.log(np.exp(LOGITS).sum())).tolist()
    says = hint(list(range(len(p))), logprobs, json.dumps({"counts": counts, "draws": 400}), "{}")
    named = re.search(r"(?:only|outside of) the (\d+) most probable", says)
    assume(named)
    assert named is not None
    order = np.argsort(-LOGITS, kind="stable")
    last = max(int(np.flatnonzero(order == int(token))[0]) for token in counts)
    assert int(named[1]) > last


@pytest.mark.parametrize("value", ["", "{}", "null", '{"counts": [1]}', '{"counts": {"x": 1}}'])
def test_a_hint_about_nonsense_is_empty(value: str) -> None:
    assert hint([1, 2], [-0.7, -0.7], value, "{}") == ""
    assert hint([1, 2], [float("nan"), -0.7], '{"counts": {"1": 5}}', "{}") == ""
    assert hint([1, 2], [-1.0, -2.0], '{"counts": {"7": 5}}', "{}") == ""
    assert hint([1, 2], [-0.7, -0.7], '{"counts": {"1": 5}}', value) in (
        "",
        "every draw is one and the same token: looks greedy",
    )
