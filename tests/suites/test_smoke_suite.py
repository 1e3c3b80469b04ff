"""The first suite asks what it promises."""

import unicodedata
from collections import Counter

from suites.model_files import ModelFiles
from suites.suite import Suite
from tests.suites.asked import CONTEXT, of_stage, prompt_ids

#: The least number of cases of each stage.
LEAST = {
    "template": 14,
    "tokenize": 30,
    "logits": 16,
    "stop": 10,
    "detokenize": 8,
    "parse": 10,
    "chain": 8,
}
LOGITS_POSITIONS = 4000


def test_every_stage_has_enough_cases(smoke: Suite) -> None:
    counts = Counter(str(case.stage) for case in smoke.cases)
    assert set(counts) == set(LEAST)
    assert all(counts[stage] >= least for stage, least in LEAST.items()), counts


def test_the_prompts_alone_hold_enough_positions_for_the_logits(
    smoke: Suite, truth: ModelFiles
) -> None:
    lengths = [len(prompt_ids(case, truth)) for case in of_stage(smoke, "logits")]
    assert sum(length - 1 for length in lengths) >= LOGITS_POSITIONS


def test_a_case_reaches_the_end_of_the_context(smoke: Suite, truth: ModelFiles) -> None:
    assert max(len(prompt_ids(case, truth)) for case in of_stage(smoke, "logits")) > 0.9 * CONTEXT


def test_cases_tagged_nfd_are_just_those_which_normalisation_changes(
    smoke: Suite, truth: ModelFiles
) -> None:
    for case in of_stage(smoke, "tokenize"):
        text = case.text if case.text is not None else case.golden.prompt_text
        assert text is not None
        pieces = text.replace("<think>", "\0").split("\0")
        composed = all(unicodedata.is_normalized("NFC", piece) for piece in pieces)
        assert composed == ("nfd" not in case.tags), case.id


def test_both_members_of_the_eos_set_are_forced(smoke: Suite) -> None:
    ends = {case.script.eos for case in of_stage(smoke, "stop") if case.script}
    assert ends >= {0, 1}
