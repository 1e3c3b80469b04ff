"""The shipped suite of samplers asks for every parameter, and for nothing where it says so."""

import json
from pathlib import Path

import pytest

from suites.loading import SHIPPED, load_suite
from suites.model_files import ModelFiles
from suites.suite import Case, SamplingParameters, Suite

NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0}


@pytest.fixture(scope="module")
def sampling() -> Suite:
    return load_suite("sampling", Path())


def _asked(case: Case) -> dict[str, object]:
    return {name: value for name, value in case.asked.model_dump().items() if value}


def _draws(suite: Suite, *tags: str) -> list[Case]:
    drawn = [case for case in suite.cases if case.measure == "draws"]
    found = [case for case in drawn if set(tags) & set(case.tags)]
    assert {tag for case in found for tag in case.tags} >= set(tags)
    return found


def test_every_parameter_is_asked_for_and_every_measure_taken(sampling: Suite) -> None:
    assert {name for case in sampling.cases for name in _asked(case)} == set(
        SamplingParameters.model_fields
    )
    assert {case.measure for case in sampling.cases} == {"draws", "greedy", "seed"}
    assert len({case.digest for case in sampling.cases}) == len(sampling.cases)


def test_plain_draws_ask_for_one_parameter_at_most(sampling: Suite) -> None:
    counts = sorted(len(_asked(case)) for case in _draws(sampling, "plain"))
    assert counts == [0, 0, 0, 1, 1]


def test_beside_what_is_measured_everything_is_asked_to_do_nothing(sampling: Suite) -> None:
    config = json.loads((SHIPPED / "models/tiny-chat/config.json").read_text())
    for case in _draws(sampling, "temperature", "cuts", "bias"):
        asked = case.asked.model_dump()
        assert all(asked[name] is not None for name in (*NEUTRAL, "top_k")), case.id
        changed = {name for name, value in NEUTRAL.items() if asked[name] != value}
        changed |= {"top_k"} if asked["top_k"] < config["vocab_size"] else set()
        changed |= {"logit_bias"} if asked["logit_bias"] else set()
        assert len(changed) == {"sampling/neutral": 0, "sampling/together": 3}.get(case.id, 1)


def test_each_biased_text_is_one_token(sampling: Suite, truth: ModelFiles) -> None:
    texts = [text for case in sampling.cases for text in case.asked.logit_bias]
    assert len(texts) == 2
    assert [len(truth.encode(text, add_special=False)) for text in texts] == [1, 1]


def test_penalties_are_seen_token_by_token(sampling: Suite) -> None:
    named = [
        (case, {name for name in _asked(case) if name.endswith("_penalty")})
        for case in sampling.cases
    ]
    penalised = [(case, penalties) for case, penalties in named if penalties]
    assert len(penalised) == 3
    for case, penalties in penalised:
        assert (case.measure, case.asked.temperature) == ("greedy", 0.0), case.id
        assert len(penalties) == 1
