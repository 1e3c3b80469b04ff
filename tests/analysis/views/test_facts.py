"""Facts that agree in another form, and facts that explain without an alarm of their own."""

import json
from dataclasses import replace

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


def facts(bench: Bench, **values: tuple[object, object]) -> None:
    """Let an attempt state these facts and no others: name → (seen, model)."""
    kept = next(iter(bench.attempt.find("config", "config/rms_eps")))
    bench.attempt.traces[:] = [t for t in bench.attempt.traces if t.columns["stage"] != "config"]
    for name, (seen, model) in values.items():
        value = json.dumps({"seen": seen, "model": model})
        columns = kept.columns | {"case_id": f"config/{name}", "value": value}
        bench.attempt.traces.append(replace(kept, columns=columns))


@arranged
@pytest.mark.parametrize(
    ("seen", "model", "verdict"),
    [(None, 4096, "qualified"), (None, 512, "divergent"), (512, None, "divergent")],
)
def test_a_window_that_holds_the_whole_context_hides_nothing(
    bench: Bench, seen: int | None, model: int | None, verdict: str
) -> Halves:
    layers = {None: []}
    facts(
        bench,
        context_length=(1024, 1024),
        sliding_window=(seen, model),
        windowed_layers=(layers.get(seen, [0, 1]), layers.get(model, [0, 1])),
        rope_theta_windowed=(None, None),
    )
    assert (yield).verdict("config") == verdict


@arranged
def test_windowed_layers_with_a_rope_of_their_own_count_whatever_the_context(
    bench: Bench,
) -> Halves:
    facts(
        bench,
        context_length=(256, 256),
        sliding_window=(512, 512),
        windowed_layers=([0, 1], [0]),
        rope_theta_windowed=(1e4, 1e4),
    )
    assert (yield).verdict("config") == "divergent"


@arranged
def test_keys_that_nobody_understands_are_named_and_alarm_nothing(bench: Bench) -> Halves:
    fact(bench, "not_compared", seen=["llama.rope.scaling.alpha"], model=["logit_scale", "mup"])
    found = yield
    assert found.verdict("config") == "qualified"
    told = (
        "3 keys of this architecture are not compared: logit_scale, mup, llama.rope.scaling.alpha"
    )
    assert told in found.stage("config")["explanation"]


@arranged
def test_one_key_is_named_as_one(bench: Bench) -> Halves:
    fact(bench, "not_compared", seen=[], model=["logit_scale"])
    told = "1 key of this architecture is not compared: logit_scale"
    assert told in (yield).stage("config")["explanation"]


@arranged
def test_a_table_says_its_first_difference_in_words(bench: Bench) -> Halves:
    for trace in bench.attempt.find("config", "config/rms_eps"):
        value = {"seen": "0a", "model": "0b", "difference": "merge 7 is 'a b', the model has 'b a'"}
        trace.columns |= {"case_id": "config/merges_digest", "value": json.dumps(value)}
    found = yield
    assert found.verdict("config") == "divergent"
    told = "merges_digest: merge 7 is 'a b', the model has 'b a'"
    assert told in found.stage("config")["explanation"]


@arranged
def test_end_tokens_that_one_side_has_alone_are_named(bench: Bench) -> Halves:
    for trace in bench.attempt.find("config", "config/rms_eps"):
        value = {
            "seen": [0, 2, 4],
            "model": [2],
            "extra": {"0": "<|endoftext|>", "4": None},
            "missing": {},
        }
        trace.columns |= {"case_id": "config/eos_ids", "value": json.dumps(value)}
    explanation = (yield).stage("config")["explanation"]
    assert "eos_ids [0,2,4], the model says [2]; extra: 0 <|endoftext|>, 4" in explanation
    assert "missing" not in explanation
