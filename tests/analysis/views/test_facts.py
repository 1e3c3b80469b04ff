"""Facts that agree in another form, and facts that explain without an alarm of their own."""

import json
from collections.abc import Callable

import pytest

from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench

Judge = Callable[[Bench], Judged]


def fact(bench: Bench, name: str, *, seen: object, model: object) -> None:
    """Let a fact of the clean run be another one."""
    for trace in bench.attempt.find("config", "config/rms_eps"):
        value = json.dumps({"seen": seen, "model": model})
        trace.columns |= {"case_id": f"config/{name}", "value": value}


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
    bench: Bench, judged: Judge, asked: int, seen: int, verdict: str
) -> None:
    fact(bench, "context_length", seen=seen, model=asked)
    assert judged(bench).verdict("config") == verdict


@pytest.mark.parametrize(
    ("name", "seen", "model"),
    [("pre_tokenizer", "smaug-bpe", "llama-bpe"), ("normalizer", "none", "NFC")],
)
def test_what_comes_before_merging_is_noted_and_alarms_nothing(
    bench: Bench, judged: Judge, name: str, seen: str, model: str
) -> None:
    fact(bench, name, seen=seen, model=model)
    found = judged(bench)
    assert found.cell()["verdict"] == "qualified"
    assert f'{name} "{seen}", the model says "{model}"' in found.stage("config")["explanation"]


def test_a_pre_tokenizer_that_is_not_known_is_not_compared(bench: Bench, judged: Judge) -> None:
    fact(bench, "pre_tokenizer", seen="tekken", model=None)
    found = judged(bench)
    assert found.verdict("config") == "qualified"
    assert "tekken" not in found.stage("config")["explanation"]


@pytest.mark.parametrize(
    ("name", "verdict"), [("sliding_window", "divergent"), ("rope_theta", "qualified")]
)
def test_a_window_that_the_model_has_not_differs_where_other_silence_leaves_free(
    bench: Bench, judged: Judge, name: str, verdict: str
) -> None:
    fact(bench, name, seen=256, model=None)
    assert judged(bench).verdict("config") == verdict
