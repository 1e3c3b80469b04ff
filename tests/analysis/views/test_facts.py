"""Facts that agree in another form, and facts that explain without an alarm of their own."""

import json

import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.handmade import Bench


def fact(bench: Bench, name: str, *, seen: object, model: object) -> None:
    """Let a fact of the clean run be another one."""
    for trace in bench.attempt.find("config", "config/rms_eps"):
        value = json.dumps({"seen": seen, "model": model})
        trace.columns |= {"case_id": f"config/{name}", "value": value}


@arranged
@pytest.mark.parametrize(
    ("asked", "seen", "verdict"),
    [
        (1000, 1024, "qualified"),
        (1024, 1024, "qualified"),
        (300, 512, "qualified"),
        (1024, 1280, "divergent"),
        (1000, 1280, "divergent"),
        (1000, 768, "divergent"),
        (4096, 512, "divergent"),
    ],
)
def test_a_context_padded_to_whole_blocks_is_what_was_asked(
    bench: Bench, asked: int, seen: int, verdict: str
) -> Halves:
    fact(bench, "context_length", seen=seen, model=asked)
    assert (yield).verdict("config") == verdict


@arranged
@pytest.mark.parametrize(
    ("name", "seen", "model"),
    [("pre_tokenizer", "smaug-bpe", "llama-bpe"), ("normalizer", "none", "NFC")],
)
def test_what_comes_before_merging_is_noted_and_alarms_nothing(
    bench: Bench, name: str, seen: str, model: str
) -> Halves:
    fact(bench, name, seen=seen, model=model)
    found = yield
    assert found.cell()["verdict"] == "qualified"
    assert f'{name} "{seen}", the model says "{model}"' in found.stage("config")["explanation"]


@arranged
def test_a_pre_tokenizer_that_is_not_known_is_not_compared(bench: Bench) -> Halves:
    fact(bench, "pre_tokenizer", seen="tekken", model=None)
    found = yield
    assert found.verdict("config") == "qualified"
    assert "tekken" not in found.stage("config")["explanation"]


@arranged
@pytest.mark.parametrize(
    ("name", "verdict"), [("sliding_window", "divergent"), ("rope_theta", "qualified")]
)
def test_a_window_that_the_model_has_not_differs_where_other_silence_leaves_free(
    bench: Bench, name: str, verdict: str
) -> Halves:
    fact(bench, name, seen=256, model=None)
    assert (yield).verdict("config") == verdict
