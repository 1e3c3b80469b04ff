"""What llama-server, Ollama and SGLang are asked, against servers that answer as documented."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runner.engines.abilities import ABILITIES, Scenarios
from runner.engines.base import Load, Request, Unseen
from runner.engines.engine import Engine
from runner.engines.registry import DIALECTS
from runner.engines.servers.connect import connected
from runner.engines.servers.plain import Plain
from runner.engines.servers.server_errors import ServerFailure
from suites.stages import CHAIN, STAGES
from tests.runner.engines.servers.fake_dialects import (
    BOS,
    END,
    EOS,
    PIECES,
    SIZE,
    FakeLlamaServer,
    FakeOllama,
    FakeSGLang,
    expected,
)
from tests.runner.engines.servers.fake_servers import FakeHandler, FakeOpenAI, serving

Opener = Callable[..., Any]
USER = [{"role": "user", "content": "abc"}]
IDS = [BOS, 1, 4, EOS, 2, 0, 5]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    """Return what opens a server as the engine child does, without being told its dialect."""
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": SIZE}))
    with ExitStack() as stack:

        def open_(server: FakeOpenAI, dialect: str = "auto") -> Plain:
            stack.enter_context(serving(server))
            load = Load(
                path=str(tmp_path),
                backend="cpu",
                pass_="deployed",
                weights_type="f32",
                engine=Engine(
                    name="candidate",
                    engine="openai",
                    serving="external",
                    base_url=server.base_url,
                    dialect=dialect,
                ),
            )
            return connected(load, DIALECTS)

        yield open_


@pytest.mark.parametrize(
    ("server", "name"),
    [
        (FakeLlamaServer, "llama-server"),
        (FakeOllama, "ollama"),
        (FakeSGLang, "sglang"),
        (FakeOpenAI, "plain"),
    ],
)
def test_a_server_s_dialect_is_found_by_what_it_answers(
    server: type[FakeOpenAI], name: str, opened: Opener
) -> None:
    assert type(opened(server())) is DIALECTS[name]


def test_mlx_is_asked_for_its_own_model_and_not_for_one_of_the_cache(opened: Opener) -> None:
    models = {"data": [{"id": "hub/another"}, {"id": "/its/own"}]}
    server = FakeOpenAI(**{"/v1/models": models, "/health": {"status": "ok"}})
    adapter = opened(server)
    assert type(adapter) is DIALECTS["mlx"]
    assert adapter.model == "default_model"


@pytest.mark.parametrize("said", [{"error": "no such model"}, {"tokens": ["a"]}, [1, 2]])
@pytest.mark.parametrize("dialect", ["llama-cpp-python", "llama-server"])
def test_ids_that_do_not_come_are_the_server_s_failure(
    dialect: str, said: Any, opened: Opener
) -> None:
    adapter = opened(FakeLlamaServer(**{"/tokenize": said, "/extras/tokenize": said}), dialect)
    with pytest.raises(ServerFailure):
        adapter.encode_text("abc")


def test_llama_server_may_keep_its_ends_to_itself(opened: Opener) -> None:
    silent = {"content": "a", "tokens": [0], "generation_settings": {}}
    facts = opened(FakeLlamaServer(**{"/completion": silent})).facts()
    assert "eos_ids" not in facts
    assert facts["context_length"] == 48


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_names_every_stage_and_the_call_that_shows_it(name: str) -> None:
    shown = DIALECTS[name].shown
    assert set(shown.stages) == {*STAGES, CHAIN}
    seen = {s for s, how in shown.stages.items() if how in ("path", "endpoint", "reenacted")}
    assert set(shown.calls) == seen


def test_llama_server_states_what_it_loaded_and_what_ends_an_answer(opened: Opener) -> None:
    adapter = opened(FakeLlamaServer())
    assert adapter.loaded.engine_version == "b9-fake"
    assert adapter.facts() == {
        "eos_ids": [EOS, END],
        "compute_dtype": "q4_k_m",
        "vocab_size": SIZE,
        "context_length": 48,
        "template_digest": hashlib.sha256(b"{{ messages }}").hexdigest(),
        "bos_id": BOS,
        "add_bos": True,
        "sampling_defaults": {"do_sample": True, "temperature": 0.8, "top_k": 40},
    }


def test_llama_server_s_prompt_is_shown_with_the_bos_that_its_tokenizer_adds(
    opened: Opener,
) -> None:
    adapter = opened(FakeLlamaServer())
    text = adapter.render(Request(USER))
    assert text == "<s>abcg"
    assert adapter.encode_chat(text) == [BOS, 0, 1, 2, 6]
    assert adapter.encode_text("ab") == [BOS, 0, 1]
    assert adapter.ids_of("a</s>") == [0, EOS]
    assert adapter.text_of([BOS, 0]) == "<s>a"


@pytest.mark.parametrize("cold", [False, True])
def test_llama_server_s_rows_follow_their_ids_also_past_an_eos(cold: bool, opened: Opener) -> None:
    rows = opened(FakeLlamaServer()).prefill(IDS, cold=cold)
    truth = expected(IDS)
    known = truth > -9.5
    np.testing.assert_allclose(rows[known], truth[known], rtol=1e-6)
    # What underflowed there is no infinity here.
    assert set(rows[~known].tolist()) == {-104.0}


def test_llama_server_decodes_on_its_cache_and_tells_what_came_from_it(opened: Opener) -> None:
    adapter = opened(FakeLlamaServer())
    truth = np.where(expected(IDS) > -9.5, expected(IDS), -104.0)
    np.testing.assert_allclose(adapter.decode(IDS[:3], IDS[3:]), truth[2:-1], rtol=1e-6)
    cached, rows = adapter.warm([[BOS, 1, 4, 6, 6]], IDS)
    assert cached == 3
    np.testing.assert_allclose(rows, truth[3:], rtol=1e-6)
    np.testing.assert_allclose(adapter.reused([BOS, 2], IDS), truth, rtol=1e-6)


def test_llama_server_s_script_is_forced_by_ids_and_ends_with_its_own_eos(opened: Opener) -> None:
    adapter = opened(FakeLlamaServer())
    for end in (EOS, END):
        script = [5, 5, 3, end, 1]
        reply = adapter.chat(Request(USER, max_tokens=len(script), script=script))
        assert (reply.output_ids, reply.text) == ([5, 5, 3, end], "ffd")
        assert reply.finish_reason == "stop"
        assert reply.prompt_ids == [BOS, 0, 1, 2, 6]
    reply = adapter.chat(Request(USER, max_tokens=2, script=[5, 1]))
    assert (reply.output_ids, reply.finish_reason) == ([5, 1], "length")


def test_llama_server_forces_nothing_beside_tools(opened: Opener) -> None:
    tool = {"type": "function", "function": {"name": "x"}}
    with pytest.raises(Unseen, match="tools"):
        opened(FakeLlamaServer()).chat(Request(USER, tools=[tool], script=[1]))


def test_llama_server_draws_with_what_is_asked_and_nothing_else(opened: Opener) -> None:
    asked: list[dict[str, Any]] = []
    server = FakeLlamaServer()
    complete = server.answers["/completion"]

    def remembering(handler: FakeHandler) -> Any:
        asked.append(handler.asked)
        return complete(handler)

    server.answers["/completion"] = remembering
    adapter = opened(server)
    adapter.draw(IDS, {"repetition_penalty": 1.1, "logit_bias": {4: -2.0}}, 3, seed=5)
    assert [set(body) for body in asked] == [
        {"prompt", "n_predict", "return_tokens", "seed", "repeat_penalty", "logit_bias"}
    ] * 3
    assert len({body["seed"] for body in asked}) == 3
    assert asked[0]["logit_bias"] == [[4, -2.0]]
    assert adapter.serve([IDS, IDS[:2]], 2, 3) == [
        adapter.generate(p, {}, 3, None) for p in (IDS, IDS[:2])
    ]


def test_a_vocabulary_too_large_for_json_stays_hidden(opened: Opener) -> None:
    meta = {"n_vocab": 128_256}
    listed = {"data": [{"id": "fake", "owned_by": "llamacpp", "meta": meta}]}
    adapter = opened(FakeLlamaServer(**{"/v1/models": listed}))
    with pytest.raises(Unseen, match="128256 probabilities at every position"):
        adapter.prefill(IDS)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"completion_probabilities": None},
        {"completion_probabilities": [{"top_logprobs": [{"id": 1}]}]},
        {"completion_probabilities": [{"top_logprobs": [{"id": 99, "logprob": -1}] * SIZE}]},
        {"completion_probabilities": [{"top_logprobs": [{"id": 1, "logprob": -1}]}]},
        {"completion_probabilities": []},
    ],
)
def test_a_distribution_of_another_shape_is_the_server_s_failure(
    answer: Any, opened: Opener
) -> None:
    adapter = opened(FakeLlamaServer())
    assert adapter.eos_ids()
    broken = opened(FakeLlamaServer(**{"/completion": answer}))
    broken._eos = adapter.eos_ids()  # known before it broke
    with pytest.raises(ServerFailure):
        broken.prefill(IDS)


def test_ollama_states_what_its_file_says(opened: Opener) -> None:
    adapter = opened(FakeOllama())
    assert adapter.loaded.engine_version == "0.33.2"
    digest = hashlib.sha256("\0".join(PIECES).encode()).hexdigest()
    assert adapter.facts() == {
        "architecture": "llama",
        "bos_id": BOS,
        "compute_dtype": "q4_k_m",
        "context_length": 4096,
        "heads": 8,
        "kv_heads": 2,
        "layers": 4,
        "model_name": "Tiny",
        "pre_tokenizer": "llama-bpe",
        "rms_eps": 1e-5,
        "rope_theta": 500000.0,
        "sampling_defaults": {"do_sample": True, "temperature": 0.6, "top_k": 20},
        "tokenizer_digest": digest,
        "vocab_size": SIZE,
    }


def test_ollama_renders_without_generating_and_takes_raw_prompts(opened: Opener) -> None:
    adapter = opened(FakeOllama())
    call = {"type": "function", "function": {"name": "x", "arguments": '{"a": 1}'}}
    text = adapter.render(Request([{"role": "assistant", "content": "", "tool_calls": [call]}]))
    assert "'arguments': {'a': 1}" in text
    reply = adapter.chat(Request(USER, prompt_text="as it is"))
    assert (reply.text, reply.prompt_count, reply.output_count) == ("AS IT IS", 2, 3)
    older = opened(FakeOllama(**{"/api/chat": {"message": {"content": "generated"}}}))
    with pytest.raises(Unseen, match="does not show what its template makes"):
        older.render(Request(USER))


def test_sglang_s_rows_follow_their_ids(opened: Opener) -> None:
    server = FakeSGLang()
    adapter = opened(server)
    truth = expected(IDS)
    np.testing.assert_allclose(adapter.prefill(IDS), truth, rtol=1e-6)
    assert server.flushed == 0
    np.testing.assert_allclose(adapter.prefill(IDS, cold=True), truth, rtol=1e-6)
    assert server.flushed == 1
    np.testing.assert_allclose(adapter.decode(IDS[:3], IDS[3:]), truth[2:-1], rtol=1e-6)


def test_sglang_states_and_tokenizes_what_its_version_can(opened: Opener) -> None:
    adapter = opened(FakeSGLang())
    assert adapter.loaded.engine_version == "0.5.9"
    assert adapter.facts() == {"compute_dtype": "bf16", "kv_dtype": "bf16", "context_length": 64}
    assert adapter.encode_chat("<s>ab") == adapter.encode_text("ab") == [BOS, 0, 1]
    assert adapter.text_of([BOS, 0]) == "<s>a"
    older = FakeSGLang()
    del older.answers["/tokenize"]
    with pytest.raises(Unseen, match="this version has no /tokenize"):
        opened(older).encode_text("ab")


def test_sglang_s_distributions_need_the_size_of_its_vocabulary(
    opened: Opener, tmp_path: Path
) -> None:
    (tmp_path / "config.json").unlink()
    with pytest.raises(Unseen, match="an unknown number of ids"):
        opened(FakeSGLang()).prefill(IDS)


def test_what_these_servers_cannot_show_is_said_and_not_guessed(opened: Opener) -> None:
    for adapter in (opened(FakeOllama()), opened(FakeSGLang()), opened(FakeOpenAI())):
        with pytest.raises(Unseen):
            adapter.chat(Request(USER, script=[1]))
        vocabulary = adapter.adapter().vocabulary
        if vocabulary is not None:
            with pytest.raises(Unseen):
                vocabulary.eos_ids()


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_has_the_abilities_that_it_declares(name: str) -> None:
    """What a dialect shows is known before a server is asked, so both must agree."""
    dialect = DIALECTS[name]
    server = dialect.__new__(dialect)  # nothing is asked of a server to name its abilities
    server.loaded = None
    if name == "vllm":
        server.numbers = SimpleNamespace(vocabulary=16)
    adapter, shown = server.adapter(), dialect.shown
    hidden = {"sglang": {"vocabulary"}}.get(name, set())  # it decodes ids, but hides its EOS ids
    abilities = {*ABILITIES, *(field.name for field in fields(Scenarios))}
    assert {a for a in abilities if adapter.has(a)} - hidden == {
        a for a in abilities if shown.has(a)
    }
