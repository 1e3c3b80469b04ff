"""vLLM's own server on the shipped model, asked as a managed one and as an external one."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from runner.engines.abilities import Adapter
from runner.engines.base import EngineGone, Load, Reply, Request, Unseen
from runner.engines.engine import Engine
from runner.engines.registry import DECLARATIONS, DIALECTS
from runner.engines.servers import connect as servers
from runner.engines.servers.managed import Managed
from runner.engines.vllm.server import VllmServer
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
_OWN = DECLARATIONS["vllm"].own_server
assert _OWN is not None
_COUNT = Request(messages=[{"role": "user", "content": "Count from 17 to 40."}], max_tokens=80)
_EOS = 1531
_TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def server() -> Iterator[Managed]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", engine_python("vllm"))
        started = Managed(_MANAGED, _OWN)
    yield started
    started.close()


@pytest.fixture(scope="module")
def adapter(server: Managed) -> Adapter:
    """The adapter that a managed cell gets, without a second server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "Managed", lambda load, own: server)
        return servers.open_server(_MANAGED, DECLARATIONS["vllm"], DIALECTS)


@pytest.fixture(scope="module")
def managed(server: Managed) -> VllmServer:
    """The managed server by itself."""
    engine = replace(_MANAGED.engine, base_url=server.base_url, dialect="vllm")
    found = servers.connected(replace(_MANAGED, engine=engine), DIALECTS)
    assert isinstance(found, VllmServer)
    return found


@pytest.fixture(scope="module")
def external(server: Managed) -> VllmServer:
    """The same server as one that nobody made force ids, nor told how to serve ids."""
    engine = Engine(name="other", engine="openai", serving="external", base_url=server.base_url)
    found = servers.connected(replace(_MANAGED, engine=engine), DIALECTS)
    assert isinstance(found, VllmServer), "the dialect is recognised"
    found.numbers.forces = found.numbers.by_ids = False
    return found


@pytest.fixture(scope="module")
def counted(managed: VllmServer) -> Reply:
    return managed.chat(_COUNT)


def test_a_server_says_what_it_is(adapter: Adapter) -> None:
    assert adapter.loaded.engine_version.startswith("0.")
    assert adapter.loaded.compute_dtype == adapter.loaded.kv_dtype == "f32"
    assert adapter.loaded.overrides["max_logprobs"] == -1
    assert adapter.shown.stages["weights"] == "path"
    facts = adapter.facts()
    assert (facts["bos_id"], facts["eos_ids"]) == (1527, [1528, _EOS])
    assert (facts["vocab_size"], facts["context_length"]) == (1536, 1024)


def test_another_device_is_refused(server: Managed) -> None:
    engine = Engine(name="other", engine="openai", serving="external", base_url=server.base_url)
    with pytest.raises(RuntimeError, match="computes on cpu, not on cuda"):
        servers.connected(replace(_MANAGED, engine=engine, backend="cuda"), DIALECTS)


def test_a_chat_shows_its_prompt_and_its_ids(managed: VllmServer, counted: Reply) -> None:
    text = managed.render(_COUNT)
    assert "Count from 17 to 40.<|turn_end|>" in text
    assert managed.encode_chat(text) == counted.prompt_ids
    assert managed.text_of(counted.shown_ids) == counted.text + "<|turn_end|>"
    streamed = managed.chat(replace(_COUNT, stream=True))
    assert (streamed.text, streamed.output_ids) == (counted.text, counted.output_ids)
    assert len(streamed.arrivals_s) > 1


def test_a_prompt_can_be_put_in_the_templates_place(managed: VllmServer, counted: Reply) -> None:
    other = [{"role": "user", "content": "Hello!"}]
    by_text = replace(_COUNT, messages=other, prompt_text=managed.render(_COUNT))
    assert managed.chat(by_text).output_ids == counted.output_ids
    by_ids = replace(_COUNT, messages=other, prompt_ids=counted.prompt_ids)
    assert managed.chat(by_ids).output_ids == counted.output_ids
    split = [*managed.ids_of("a"), *managed.ids_of("b")]
    with pytest.raises(Unseen):
        managed.chat(replace(_COUNT, prompt_ids=split))


def test_logits_are_one_in_prefill_decode_batch_and_behind_a_cached_prefix(
    managed: VllmServer, counted: Reply
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
    managed: VllmServer, external: VllmServer, counted: Reply
) -> None:
    prompt = counted.prompt_ids or []
    np.testing.assert_allclose(external.prefill(prompt), managed.prefill(prompt), atol=1e-3)
    with pytest.raises(Unseen):
        external.warm([prompt], prompt)


@pytest.mark.parametrize("stream", [False, True])
def test_a_script_comes_out_and_is_parsed(managed: VllmServer, stream: bool) -> None:
    script = [*managed.ids_of(_CALL), _EOS]
    asked = replace(_COUNT, tools=_TOOLS, script=script, max_tokens=len(script), stream=stream)
    reply = managed.chat(asked)
    assert reply.output_ids == script
    assert reply.finish_reason == "tool_calls"
    (call,) = (reply.message or {})["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"a": 1}
    assert reply.text == _CALL, "the text is whole though the parser took the call out of it"


def test_a_grammar_forces_what_it_can_spell_and_no_more(
    managed: VllmServer, external: VllmServer
) -> None:
    script = [*external.ids_of("The answer is 7."), _EOS]
    asked = replace(_COUNT, script=script, max_tokens=len(script))
    assert external.chat(asked).text == managed.chat(asked).text == "The answer is 7."
    stopped = replace(asked, stop=["answer"])
    assert external.chat(stopped).text == managed.chat(stopped).text == "The "
    pieces = [*external.ids_of("a"), *external.ids_of("b"), _EOS]
    assert external.ids_of("ab") != pieces[:-1]
    with pytest.raises(Unseen):
        external.chat(replace(asked, script=pieces, max_tokens=len(pieces)))


def test_draws_are_seeded_and_follow_what_is_asked(managed: VllmServer, counted: Reply) -> None:
    prompt, open_end = counted.prompt_ids or [], managed.encode_text("The number is")
    drawn = managed.draw(open_end, {"temperature": 2.0}, 70, 1)
    assert len(drawn) == 70
    assert len(set(drawn)) > 5
    assert managed.draw(open_end, {"temperature": 2.0}, 70, 1) == drawn
    assert managed.draw(open_end, {"temperature": 2.0}, 70, 99) != drawn
    assert set(managed.draw(prompt, {"logit_bias": {5: 100.0}}, 70, 1)) == {5}
    assert managed.generate(prompt, {"temperature": 0.0}, 80, None) == counted.output_ids


def test_many_at_once_answer_as_one_alone(managed: VllmServer, counted: Reply) -> None:
    prompt = counted.prompt_ids or []
    assert managed.serve([prompt, prompt[:9], prompt], 2, 80)[::2] == [counted.output_ids] * 2
    short = replace(_COUNT, max_tokens=4)
    texts = [reply.text for reply in managed.together(managed.chat, [_COUNT, short, _COUNT], 3)]
    assert texts[0] == texts[2] == counted.text
    assert counted.text.startswith(texts[1])


def test_what_a_server_was_not_started_for_is_hidden(external: VllmServer, counted: Reply) -> None:
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
        engine = replace(_MANAGED.engine, options={"no_such_option": 1})
        with pytest.raises(EngineGone, match="before it was ready"):
            Managed(replace(_MANAGED, engine=engine), _OWN)
