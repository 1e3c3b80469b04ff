"""vLLM's own server on the shipped model, asked as a managed one and as an external one."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from runner.engines.base import Adapter, EngineGone, Load, Reply, Request, Unseen
from runner.engines.engine import Engine
from runner.engines.servers import connect as servers
from runner.engines.servers.managed import Managed
from runner.engines.vllm.server import Vllm
from tests.engines import engine_python
from tests.paths import TINY_CHAT

pytestmark = pytest.mark.engines

_OPTIONS = {"tool_call_parser": "hermes", "reasoning_parser": "deepseek_v3", "block_size": 32}
_MANAGED = Load(
    path=str(TINY_CHAT),
    backend="cpu",
    pass_="structure",
    weights_type="f32",
    engine=Engine(name="vllm", engine="vllm", serving="managed", options=_OPTIONS),
    deadline_s=900,
)
_COUNT = Request(messages=[{"role": "user", "content": "Count from 17 to 40."}], max_tokens=80)
_EOS = 1531
_TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def server() -> Iterator[Managed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", engine_python("vllm"))
        started = Managed(_MANAGED)
    yield started
    started.close()


@pytest.fixture(scope="module")
def managed(server: Managed) -> Adapter:
    """The adapter that a managed cell gets, without a second server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "Managed", lambda load: server)
        return servers.open_server(_MANAGED)


@pytest.fixture(scope="module")
def external(server: Managed) -> Vllm:
    """The same server as one that nobody made force ids, nor told how to serve ids."""
    engine = Engine(name="other", engine="openai", serving="external", base_url=server.base_url)
    found = servers.open_server(replace(_MANAGED, engine=engine))
    assert isinstance(found, Vllm), "the dialect is recognised"
    found.numbers.forces = found.numbers.by_ids = False
    return found


@pytest.fixture(scope="module")
def counted(managed: Adapter) -> Reply:
    return managed.chat(_COUNT)


def test_a_server_says_what_it_is(managed: Adapter) -> None:
    assert managed.loaded.engine_version.startswith("0.")
    assert managed.loaded.compute_dtype == managed.loaded.kv_dtype == "f32"
    assert managed.loaded.overrides["max_logprobs"] == -1
    assert managed.shown.stages["weights"] == "path"
    facts = managed.facts()
    assert (facts["bos_id"], facts["eos_ids"]) == (1527, [1528, _EOS])
    assert (facts["vocab_size"], facts["context_length"]) == (1536, 1024)


def test_another_device_is_refused(server: Managed) -> None:
    load = replace(_MANAGED, engine="openai", serving="external", base_url=server.base_url)
    with pytest.raises(RuntimeError, match="computes on cpu, not on cuda"):
        servers.open_server(replace(load, options={}, backend="cuda"))


def test_a_chat_shows_its_prompt_and_its_ids(managed: Adapter, counted: Reply) -> None:
    text = managed.render(_COUNT)
    assert "Count from 17 to 40.<|turn_end|>" in text
    assert managed.encode_chat(text) == counted.prompt_ids
    assert managed.decode_ids(counted.shown_ids) == counted.text + "<|turn_end|>"
    streamed = managed.chat(replace(_COUNT, stream=True))
    assert (streamed.text, streamed.output_ids) == (counted.text, counted.output_ids)
    assert len(streamed.arrivals_s) > 1


def test_a_prompt_can_be_put_in_the_templates_place(managed: Adapter, counted: Reply) -> None:
    other = [{"role": "user", "content": "Hello!"}]
    by_text = replace(_COUNT, messages=other, prompt_text=managed.render(_COUNT))
    assert managed.chat(by_text).output_ids == counted.output_ids
    by_ids = replace(_COUNT, messages=other, prompt_ids=counted.prompt_ids)
    assert managed.chat(by_ids).output_ids == counted.output_ids
    split = [*managed.encode_output("a"), *managed.encode_output("b")]
    with pytest.raises(Unseen):
        managed.chat(replace(_COUNT, prompt_ids=split))


def test_logits_are_one_in_prefill_decode_batch_and_behind_a_cached_prefix(
    managed: Adapter, counted: Reply
) -> None:
    prompt, output = counted.prompt_ids or [], counted.shown_ids
    ids = [*prompt, *output]
    rows = managed.prefill(ids, cold=True)
    assert rows.shape == (len(ids), 1536)
    predicted = rows[len(prompt) - 1 : -1]
    assert predicted.argmax(axis=1).tolist() == output
    np.testing.assert_allclose(managed.decode(prompt, output), predicted, atol=1e-3)
    first, second = managed.batch([(prompt, output), (prompt[:9], [])])
    np.testing.assert_allclose(first, rows[:-1], atol=1e-3)
    np.testing.assert_allclose(second, rows[:8], atol=1e-3)
    cached, behind = managed.warm([ids[:70]], ids)
    assert cached == 64
    np.testing.assert_allclose(behind, rows[64:], atol=1e-3)


def test_a_server_that_serves_no_ids_tells_the_same_logits(
    managed: Adapter, external: Vllm, counted: Reply
) -> None:
    prompt = counted.prompt_ids or []
    np.testing.assert_allclose(external.prefill(prompt), managed.prefill(prompt), atol=1e-3)
    with pytest.raises(Unseen):
        external.warm([prompt], prompt)


@pytest.mark.parametrize("stream", [False, True])
def test_a_script_comes_out_and_is_parsed(managed: Adapter, stream: bool) -> None:
    script = [*managed.encode_output(_CALL), _EOS]
    asked = replace(_COUNT, tools=_TOOLS, script=script, max_tokens=len(script), stream=stream)
    reply = managed.chat(asked)
    assert reply.output_ids == script
    assert reply.finish_reason == "tool_calls"
    (call,) = (reply.message or {})["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"a": 1}
    assert reply.text == _CALL, "the text is whole though the parser took the call out of it"


def test_a_grammar_forces_what_it_can_spell_and_no_more(managed: Adapter, external: Vllm) -> None:
    script = [*external.encode_output("The answer is 7."), _EOS]
    asked = replace(_COUNT, script=script, max_tokens=len(script))
    assert external.chat(asked).text == managed.chat(asked).text == "The answer is 7."
    stopped = replace(asked, stop=["answer"])
    assert external.chat(stopped).text == managed.chat(stopped).text == "The "
    pieces = [*external.encode_output("a"), *external.encode_output("b"), _EOS]
    assert external.encode_output("ab") != pieces[:-1]
    with pytest.raises(Unseen):
        external.chat(replace(asked, script=pieces, max_tokens=len(pieces)))


def test_draws_are_seeded_and_follow_what_is_asked(managed: Adapter, counted: Reply) -> None:
    prompt, open_end = counted.prompt_ids or [], managed.encode_text("The number is")
    drawn = managed.draw(open_end, {"temperature": 2.0}, 70, 1)
    assert len(drawn) == 70
    assert len(set(drawn)) > 5
    assert managed.draw(open_end, {"temperature": 2.0}, 70, 1) == drawn
    assert managed.draw(open_end, {"temperature": 2.0}, 70, 99) != drawn
    assert set(managed.draw(prompt, {"logit_bias": {5: 100.0}}, 70, 1)) == {5}
    assert managed.generate(prompt, {"temperature": 0.0}, 80, None) == counted.output_ids


def test_many_at_once_answer_as_one_alone(managed: Adapter, counted: Reply) -> None:
    prompt = counted.prompt_ids or []
    assert managed.serve([prompt, prompt[:9], prompt], 2, 80)[::2] == [counted.output_ids] * 2
    short = replace(_COUNT, max_tokens=4)
    texts = [reply.text for reply in managed.converse([_COUNT, short, _COUNT], 3)]
    assert texts[0] == texts[2] == counted.text
    assert counted.text.startswith(texts[1])


def test_what_a_server_was_not_started_for_is_hidden(external: Vllm, counted: Reply) -> None:
    told = external.numbers.vocabulary
    external.numbers.vocabulary = 0
    try:
        with pytest.raises(Unseen, match="max-logprobs"):
            external.prefill(counted.prompt_ids or [])
    finally:
        external.numbers.vocabulary = told


def test_a_server_that_cannot_start_says_so() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", engine_python("vllm"))
        with pytest.raises(EngineGone, match="before it was ready"):
            Managed(replace(_MANAGED, options={"no_such_option": 1}))
