"""What is special to mlx-lm: two releases behind one adapter, and what the library does not have.

The releases differ inside (how batches stop, what a wrapper can be asked), so each is asked. One
process for each answers all questions: importing the engine takes longer than they do.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT, TINY_CHAT

_PYTHONS = sorted(Path(sys.prefix, "engines").glob("mlx-*/bin/python"))
VERSIONS = pytest.mark.parametrize(
    "version", [path.parent.parent.name.removeprefix("mlx-") for path in _PYTHONS]
)
_PROGRAM = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.append(sys.argv[1])
from runner.engines.base import Load, Request, Unseen
from runner.engines.engine import Engine
from runner.engines.registry import load_adapter
import numpy as np

def make(pass_="structure", backend="cpu", **options):
    engine = Engine("mlx", "mlx", options=options)
    return load_adapter(Load(sys.argv[2], backend, pass_, "f32", engine))

def raised(call):
    try:
        call()
    except (RuntimeError, ValueError, Unseen) as error:
        return [type(error).__name__, str(error), getattr(error, "how", None)]

def worst(a, b):
    return float(np.abs(a - b).max())

told = {"no_metal": raised(lambda: make(backend="metal"))}
adapter = make()
told["version"], told["type"] = adapter.loaded.engine_version, adapter.loaded.compute_dtype
told["device"] = adapter.loaded.device

USER = [{"role": "user", "content": "What is 3 + 4?"}]
told["opened"] = adapter.template.render(Request(USER)).endswith("<think>\\n")
plain = Request(USER, template_options={"enable_thinking": False})
told["asked_not_to"] = adapter.template.render(plain).endswith("<think>\\n")

hello = adapter.vocabulary.ids_of("Hello there")
told["stop_string"] = raised(lambda: adapter.chat(Request(USER, script=hello, stop=["there"])))
ended = adapter.chat(Request(USER, script=[*hello, adapter.vocabulary.eos_ids()[1], *hello]))
told["ended"] = [ended.text, ended.finish_reason, ended.message]
cut = adapter.chat(Request(USER, script=[*hello, *hello], max_tokens=len(hello)))
told["cut"] = [cut.text, cut.finish_reason]

ids = adapter.tokenizer.encode_chat(adapter.template.render(plain))
pairs = [(ids, hello), (ids[:7], ids[7:]), (ids[:2], []), (ids[:9], [5])]
told["batched"] = max(
    worst(seen, adapter.distribution.prefill([*prompt, *output], cold=True)[: len(seen)])
    for (prompt, output), seen in zip(pairs, adapter.scenarios.batched(pairs))
)
told["lengths"] = [len(rows) for rows in adapter.scenarios.batched(pairs)]
told["asked"] = [len(prompt) + len(output) - 1 for prompt, output in pairs]
prompts = [ids, ids[:9], ids[:5], ids]
told["served"] = [adapter.scenarios.concurrent(prompts, n, 8) for n in (1, 3)]

told["undecided"] = len(set(adapter.sampler.draw(hello, {}, 50, 1)))
told["drawn"] = [adapter.sampler.draw(hello, {"temperature": 1.0}, 300, seed) for seed in (1, 1, 2)]
known = []

def note(tokens, logits):
    known.append(len(tokens))
    return logits

adapter.sampler._loop.sample_first(ids, lambda logprobs: logprobs.argmax(axis=-1), [note])
told["known"] = known

short = make("deployed", prefill_step_size=6, kv_bits=8, kv_group_size=32, quantized_kv_start=0)
sizes, kind = [], type(short.sampler._loop.model)
forward = kind.__call__

def counted(model, tokens, *arguments, **named):
    sizes.append(tokens.shape[1])
    return forward(model, tokens, *arguments, **named)

kind.__call__ = counted
rows = short.distribution.prefill(ids)
kind.__call__ = forward
told["sizes"], told["ids"] = sizes, len(ids)
told["quantised"] = [worst(rows, adapter.distribution.prefill(ids)), short.loaded.kv_dtype]
told["no_batch"] = raised(lambda: short.scenarios.batched([(ids, hello)]))
told["kept_whole"] = make(kv_bits=8, quantized_kv_start=0).loaded.overrides
half = make("deployed", dtype="bf16")
told["half"] = [half.loaded.compute_dtype, half.loaded.kv_dtype]
told["half"].append(worst(half.distribution.prefill(ids), adapter.distribution.prefill(ids)))
told["no_dtype"] = raised(lambda: make("deployed", dtype="fp16"))
print(json.dumps(told), file=answers, flush=True)
"""


@functools.cache
def _told(version: str) -> dict[str, Any]:
    python = next(path for path in _PYTHONS if path.parent.parent.name == f"mlx-{version}")
    done = subprocess.run(
        [python, "-c", _PROGRAM, str(ROOT), str(TINY_CHAT)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_two_releases_are_here_to_be_told_apart() -> None:
    assert len({_told(path.parent.parent.name[4:])["version"] for path in _PYTHONS}) >= 2


@VERSIONS
def test_a_release_loads_in_float32_and_says_what_it_is(version: str) -> None:
    told = _told(version)
    assert (told["version"], told["type"]) == (version, "f32")
    assert told["device"]["device"] == "cpu"
    assert told["device"]["runtime"].startswith("mlx ")


@VERSIONS
def test_metal_is_refused_where_there_is_none(version: str) -> None:
    kind, message, _ = _told(version)["no_metal"]
    assert kind == "RuntimeError"
    assert "no metal device" in message


@VERSIONS
def test_stop_strings_are_absent_and_other_ends_are_seen(version: str) -> None:
    told = _told(version)
    assert told["stop_string"][0] == "Unseen"
    assert told["stop_string"][2] == "absent"
    assert told["ended"] == ["Hello there", "stop", None]
    assert told["cut"] == ["Hello there", "length"]


@VERSIONS
def test_the_library_opens_reasoning_unless_told_not_to(version: str) -> None:
    """That is its wrapper's doing, seen on the path that a user takes."""
    told = _told(version)
    assert told["opened"]
    assert not told["asked_not_to"]


@VERSIONS
def test_rows_of_a_batch_are_those_of_each_sequence_alone(version: str) -> None:
    told = _told(version)
    assert told["batched"] < 1e-3
    assert told["lengths"] == told["asked"]


@VERSIONS
def test_slots_are_given_to_the_next_request_and_answers_stay_apart(version: str) -> None:
    one, three = _told(version)["served"]
    assert one == three
    assert one[0] == one[3]
    assert one[0] != one[1]


@VERSIONS
def test_draws_are_greedy_without_a_temperature_and_follow_their_seed_with_one(
    version: str,
) -> None:
    told = _told(version)
    first, again, other = told["drawn"]
    assert told["undecided"] == 1
    assert len(first) == 300
    assert first == again
    assert first != other
    assert len(set(first)) > 1


def test_releases_differ_in_what_a_penalty_knows_of_the_prompt() -> None:
    """The older one hands the last id of a prompt alone to its logits processors."""
    newer, older = _told("0.32.2"), _told("0.31.3")
    assert newer["known"] == [newer["ids"]]
    assert older["known"] == [1]


@VERSIONS
def test_options_of_the_loop_reach_it(version: str) -> None:
    told = _told(version)
    chunks, last = divmod(told["ids"] - 1, 6)
    assert told["sizes"] == [6] * chunks + ([last] if last else []) + [1]
    error, stated = told["quantised"]
    assert 1e-4 < error < 5
    assert stated == "f32, later 8 bits"
    assert told["no_batch"][2] == "absent"


@VERSIONS
def test_the_structure_pass_keeps_the_cache_whole(version: str) -> None:
    assert _told(version)["kept_whole"] == {"dtype": "f32", "kv_bits": None}


@VERSIONS
def test_weights_are_cast_to_the_type_asked_for(version: str) -> None:
    told = _told(version)
    compute, cache, error = told["half"]
    assert (compute, cache) == ("bf16", "bf16")
    assert 1e-3 < error < 5
    assert told["no_dtype"][1] == "option dtype is 'fp16'; choose one of bf16, f16, f32"
