"""The suites beyond the first ask what they promise."""

from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import pytest

from suites.loading import SHIPPED, load_suite
from suites.model_files import ModelFiles
from suites.suite import Suite
from tests.suites.asked import of_stage


@pytest.fixture(scope="module")
def conformance() -> Suite:
    return load_suite("conformance", Path())


@pytest.fixture(scope="module")
def tools() -> Suite:
    return load_suite("tools", Path())


@pytest.fixture(scope="module")
def variance() -> Suite:
    return load_suite("variance", Path())


def test_conformance_takes_the_exact_stages_of_smoke_as_they_are(
    conformance: Suite, smoke: Suite
) -> None:
    stages = ("template", "tokenize", "stop", "detokenize", "parse")
    taken = {case.id: case.digest for case in of_stage(smoke, *stages)}
    assert len(taken) == 139
    found = {case.id: case.digest for case in conformance.cases}
    assert taken.items() <= found.items()
    assert {str(case.stage) for case in conformance.cases} == set(stages)


def test_conformance_has_enough_cases_of_its_own(conformance: Suite, smoke: Suite) -> None:
    known = {case.id for case in smoke.cases}
    own = Counter(str(case.stage) for case in conformance.cases if case.id not in known)
    assert len(conformance.cases) >= 180
    assert min(own.values()) >= 8, own


def test_conformance_asks_nothing_that_needs_a_reference(conformance: Suite) -> None:
    for case in conformance.cases:
        golden = case.golden
        answer = {
            "template": golden.prompt_text,
            "tokenize": golden.prompt_ids,
            "stop": golden.text,
            "detokenize": golden.text,
            "parse": golden.message,
        }
        assert answer[str(case.stage)] is not None, case.id


def test_content_in_one_part_is_its_text(conformance: Suite) -> None:
    (case,) = (c for c in conformance.cases if c.id == "template/content-in-parts")
    assert case.golden.prompt_text is not None
    assert "\n\nHello! How can I help you?<|turn_end|>" in case.golden.prompt_text
    assert "type" not in case.golden.prompt_text


def test_turns_of_a_transcript_go_on_from_each_other(tools: Suite) -> None:
    """A later turn has the messages of the one before it, so each call is asked with its past."""
    weather = [c for c in of_stage(tools, "chain") if c.id.startswith("chain/weather-")]
    assert len(weather) >= 3
    for earlier, later in pairwise(weather):
        assert earlier.messages is not None
        assert later.messages is not None
        assert later.messages[: len(earlier.messages)] == earlier.messages, later.id


def test_arguments_as_sent_make_the_same_prompt(tools: Suite, truth: ModelFiles) -> None:
    """The template prints a string of arguments as it is, so both forms must be answered alike."""
    cases = {case.id: case for case in tools.cases}
    for ours, sent in (("weather-2-answer", "as-sent-2-answer"),):
        texts = {
            truth.render(c.messages or (), c.tools)
            for c in (cases[f"chain/{ours}"], cases[f"chain/{sent}"])
        }
        assert len(texts) == 1


def test_variance_puts_every_question_in_every_way(variance: Suite) -> None:
    for stage in ("chain", "logits"):
        levels = [tuple(sorted(case.tags)) for case in of_stage(variance, stage)]
        items = {item for item, _ in levels}
        prompts = {prompt for _, prompt in levels}
        assert all(i.startswith("item:") for i in items)
        assert all(p.startswith("prompt:") for p in prompts)
        assert sorted(levels) == sorted(product(items, prompts))
        assert min(len(items), len(prompts)) >= 4


def test_variance_knows_one_right_answer_per_question(variance: Suite) -> None:
    answers: dict[str, set[str | None]] = {}
    for case in of_stage(variance, "chain"):
        answers.setdefault(min(case.tags), set()).add(case.golden.text)
    assert all(len(found) == 1 and None not in found for found in answers.values()), answers


def test_every_suite_says_in_which_time_it_runs() -> None:
    tiers = {path.stem: load_suite(path.stem, Path()).tier for path in SHIPPED.glob("*.yaml")}
    assert tiers["smoke"] == tiers["conformance"] == 1
    assert tiers["tools"] == tiers["variance"] == 2
