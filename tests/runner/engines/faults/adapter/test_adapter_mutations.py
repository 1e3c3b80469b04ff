"""Known faults of a loaded engine: each harms its own stage, the same way each time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest

from runner.engines.abilities import Adapter, Scenarios
from runner.engines.base import Request
from runner.engines.faults.adapter import ADAPTER_MUTATIONS, mutated
from runner.engines.faults.adapter.sampler import probabilities
from runner.stored.canonical import canonical_message
from tests.runner.engines.faults.adapter.simple_adapter import BOS, EOS, Simple

_T = TypeVar("_T")
PROMPT, OTHER = [BOS, 3, 4, 5, 6], [BOS, 3, 9, 10, 11, 12]
OUTPUT = [7, 8, 9, 10]
HELLO = Request(
    messages=[{"role": "user", "content": "Hello out there <|role|>"}],
    tools=[{"b": 1, "a": 2}],
    max_tokens=40,
)
EMPTY = {"function": {"name": "f", "arguments": {}}}
CALL = {"function": {"name": "f", "arguments": {"b": "x</tool_call>y", "a": 1}}}
MESSAGE = {"content": "hi", "reasoning_content": "so", "tool_calls": [CALL, EMPTY]}
ALL = [(at, how) for at, known in ADAPTER_MUTATIONS.items() for how in known]


def make(at: str, how: str, engine: Simple | None = None, **keys: Any) -> Adapter:
    engine = engine or Simple()
    engine.message = dict(MESSAGE) if at == "parse" else None
    strong = {"argmax-removed": 0.5, "second-best": 0.5, "stray-token": 0.5, "softcap": 0.5}
    if how in strong:
        keys.setdefault("by", strong[how])
    narrow = {"step-from": 1, "window-evicted": 1}
    if how in narrow:
        keys.setdefault("first", narrow[how])
    return mutated(engine.adapter(), {"at": at, "how": how, **keys})


def must(ability: _T | None) -> _T:
    assert ability is not None
    return ability


def told(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return str(value.round(6).tolist())  # as text, since NaN is no equal of itself
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    return value


def everything(adapter: Adapter, engine: Simple) -> dict[str, Any]:
    """What each ability answers to one question; twice where order may matter."""
    template, tokenizer = must(adapter.template), must(adapter.tokenizer)
    distribution, sampler = must(adapter.distribution), must(adapter.sampler)
    scenarios = adapter.scenarios
    scripts = {
        "emoji": [4, 8, 9, 5, EOS],
        "spaces": [4, 3, 5, 3, 4],
        "eos": [4, EOS, 5, 6],
        "long": [4] * 30,
    }
    asked = {"temperature": 0.7, "logit_bias": {4: 5.0}, "repetition_penalty": 1.2}
    found: dict[str, Any] = {
        "render": template.render(HELLO),
        "encode_chat": tokenizer.encode_chat("one two three"),
        "encode_text": tokenizer.encode_text("one two three"),
        "prefill": distribution.prefill(OTHER),
        "again": distribution.prefill(OTHER),
        "after": distribution.prefill(PROMPT * 2),
        "cold": distribution.prefill(OTHER, cold=True),
        "decode": distribution.decode(PROMPT, OUTPUT),
        "batch": must(scenarios.batched)([(PROMPT, OUTPUT), (OTHER, OUTPUT[:2]), (OTHER, OUTPUT)]),
        "chunked": must(scenarios.chunked).prefill(PROMPT + OUTPUT, 3),
        "warm": must(scenarios.prefix)([OTHER, PROMPT], PROMPT + OUTPUT),
        "reused": must(scenarios.reused)(OTHER, PROMPT + OUTPUT),
        "serve": must(scenarios.concurrent)([PROMPT, OTHER, OTHER[1:]], 2, 6),
        "draw": sampler.draw(PROMPT, {}, 40, 1),
        "draw asked": sampler.draw(PROMPT, asked, 10, 1),
        "greedy": sampler.generate(PROMPT, {"temperature": 0.0}, 12, None),
        "chat": adapter.chat(HELLO),
        "stop": adapter.chat(Request(messages=(), script=[3, 4, 6, 5, 6], stop=["bd"])),
        "almost": adapter.chat(Request(messages=(), script=[3, 4, EOS], stop=["bd"])),
        "streamed": adapter.chat(Request(messages=(), script=scripts["emoji"], stream=True)),
    }
    found |= {name: adapter.chat(Request(messages=(), script=ids)) for name, ids in scripts.items()}
    found["asked"] = list(engine.asked)
    return {name: told(value) for name, value in found.items()}


CHATS = {"chat", "stop", "almost", "emoji", "spaces", "eos", "long", "streamed", "asked"}
#: What each stage's mutations may change; whatever they leave alone is as the engine has it.
REACH: dict[str, set[str]] = {
    "instrument": {"prefill", "again", "after", "cold", "decode"},
    "template": {"render", *CHATS},
    "tokenize": {"encode_chat", "encode_text", *CHATS},
    "logits": {
        *("prefill", "again", "after", "cold", "decode", "batch", "chunked", "warm", "reused"),
        *("serve", "draw", "draw asked", "greedy", "chat", "asked"),
    },
    "state": {"batch", "chunked", "warm", "reused", "serve"},
    "sampling": {"draw", "draw asked", "greedy", "chat", "asked"},
    "stop": CHATS,
    "detokenize": CHATS,
    "parse": CHATS,
}
#: These need what the simple adapter cannot show.
SILENT = {"specials-split", "specials-stripped", "longest-match", "unmerged"}
SILENT |= {"chat-beginning-dropped"}


@pytest.mark.parametrize(("at", "how"), ALL)
def test_a_mutation_harms_its_own_stage_and_no_other(at: str, how: str) -> None:
    clean, harmed = Simple(), Simple()
    clean.message = dict(MESSAGE) if at == "parse" else None
    before = everything(clean.adapter(), clean)
    after = everything(make(at, how, harmed), harmed)
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= REACH[at]
    assert bool(changed) != (how in SILENT)


@pytest.mark.parametrize(("at", "how"), ALL)
def test_a_mutation_does_the_same_each_time(at: str, how: str) -> None:
    first, second = Simple(), Simple()
    assert everything(make(at, how, first), first) == everything(make(at, how, second), second)


def test_strength_and_range_are_those_asked_for() -> None:
    clean = Simple().prefill(OTHER)
    adapter = make("logits", "noise-range", by=1e-3, first=2, last=3)
    harmed = must(adapter.distribution).prefill(OTHER)
    differing = np.flatnonzero(np.abs(harmed - clean).max(axis=1))
    assert differing.tolist() == [2, 3]
    assert 0 < np.abs(harmed - clean).max() < 1e-2


def test_decode_noise_leaves_a_prefill_alone() -> None:
    adapter, clean = must(make("logits", "decode-noise").distribution), Simple()
    np.testing.assert_array_equal(adapter.prefill(OTHER), clean.prefill(OTHER))
    changed = np.abs(adapter.decode(PROMPT, OUTPUT) - clean.decode(PROMPT, OUTPUT)).max(axis=1)
    assert changed[0] == 0
    assert (changed[1:] > 0).all()


def test_answers_follow_from_harmed_logits() -> None:
    adapter = make("logits", "zero-id-range", first=3, last=9)
    answer = must(adapter.sampler).generate(PROMPT, {"temperature": 0.0}, 4, None)
    rows = must(adapter.distribution).prefill([*PROMPT, *answer])[len(PROMPT) - 1 : -1]
    assert rows.argmax(axis=1).tolist() == answer
    assert adapter.chat(Request(messages=(), prompt_ids=PROMPT, max_tokens=4)).output_ids == answer


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("brace-eaten", ['{"b": "x</tool_call>y", "a": 1', "{"]),
        ("closing-tag-cut", ['{"b": "x', "{}"]),
        ("keys-sorted", ['{"a": 1, "b": "x</tool_call>y"}', "{}"]),
        ("empty-call-dropped", ['{"b": "x</tool_call>y", "a": 1}']),
        ("later-calls-dropped", ['{"b": "x</tool_call>y", "a": 1}']),
    ],
)
def test_arguments_are_harmed_as_the_parser_would(how: str, wanted: list[str]) -> None:
    message = make("parse", how).chat(HELLO).message
    assert message is not None
    calls = canonical_message(message)["tool_calls"]
    assert [call["arguments"] for call in calls] == wanted


def test_an_ignored_eos_runs_on() -> None:
    reply = make("stop", "eos-ignored").chat(Request(messages=(), script=[4, EOS, 5], max_tokens=3))
    assert (reply.output_ids, reply.text, reply.finish_reason) == ([4, EOS, 5], "b c", "length")


def test_hidden_parameters_reach_the_sampler() -> None:
    engine = Simple()
    sampler = must(make("sampling", "top-k", engine, by=7).sampler)
    sampler.draw(PROMPT, {"temperature": 0.5}, 3, 1)
    sampler.draw(PROMPT, {"top_k": 2}, 3, 1)
    assert [a.get("top_k") for a in engine.asked] == [7, 2]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, [0.1, 0.2, 0.3, 0.4]),
        ({"temperature": 0}, [0, 0, 0, 1]),
        ({"top_k": 2}, [0, 0, 3 / 7, 4 / 7]),
        ({"top_p": 0.5}, [0, 0, 3 / 7, 4 / 7]),
        ({"min_p": 0.6}, [0, 0, 3 / 7, 4 / 7]),
        ({"logit_bias": {0: float(np.log(4))}}, [4 / 13, 2 / 13, 3 / 13, 4 / 13]),
        ({"presence_penalty": float(np.log(2))}, [0.1 / 0.8, 0.2 / 0.8, 0.3 / 0.8, 0.2 / 0.8]),
    ],
)
def test_the_plain_sampler_means_what_openai_does(
    asked: dict[str, Any], wanted: Sequence[float]
) -> None:
    row = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))
    np.testing.assert_allclose(probabilities(row, asked, [3]), wanted, atol=1e-6)


class Words(Simple):
    words = ("<|bos|>", "a", "b", "ab", "abc", "c")

    def text_of(self, ids: Sequence[int]) -> str:
        return "".join(self.words[i] if i < len(self.words) else "<|x|>" for i in ids)

    def encode_text(self, text: str) -> list[int]:
        return [0, *(self.words.index(c) for c in text.split())]


def test_longest_match_takes_the_longest_piece() -> None:
    tokenizer = must(make("tokenize", "longest-match", Words()).tokenizer)
    assert tokenizer.encode_text("a b c a b") == [0, 4, 3]


def test_the_longest_piece_comes_in_two() -> None:
    tokenizer = must(make("tokenize", "unmerged", Words()).tokenizer)
    assert tokenizer.encode_text("a ab abc") == [0, 1, 3, 3, 5]
    assert tokenizer.encode_text("a c") == [0, 1, 5]


def test_a_long_prompt_loses_its_beginning_on_the_chat_path_alone() -> None:
    adapter = make("tokenize", "chat-beginning-dropped", by=4)
    asked = Request(messages=[{"role": "user", "content": "one two three four five"}])
    whole = must(adapter.tokenizer).encode_chat(must(adapter.template).render(asked))
    assert len(whole) > 4
    assert adapter.chat(asked).prompt_ids == whole[len(whole) // 2 :]


def test_markers_of_parsers_are_skipped() -> None:
    class Marked(Simple):
        def text_of(self, ids: Sequence[int]) -> str:
            return f"<think>{super().text_of(ids)}"

    adapter = make("detokenize", "specials-stripped", Marked())
    assert adapter.chat(Request(messages=(), script=[4])).text == "b"


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(KeyError):
        make("logits", "nothing-like-it")


def test_chats_that_run_together_go_through_the_harmed_chat_path() -> None:
    adapter = make("stop", "limit", by=2)
    replies = must(adapter.scenarios.chats)(adapter.chat, [HELLO, HELLO], 2)
    assert [len(reply.shown_ids) for reply in replies] == [2, 2]


def test_a_server_that_hides_its_template_still_gets_the_harmed_chats() -> None:
    engine = Simple()
    hidden = replace(engine.adapter(), template=None)
    adapter = mutated(hidden, {"at": "template", "how": "tools-dropped"})
    assert adapter.template is None
    assert adapter.chat(HELLO).prompt_ids == engine.chat(replace(HELLO, tools=None)).prompt_ids


@pytest.mark.parametrize(
    ("at", "how", "lacking", "said"),
    [
        ("logits", "softcap", {"distribution": None}, "the distribution over its whole vocabulary"),
        ("state", "rows-mixed", {"scenarios": Scenarios()}, "the scenario 'batched'"),
        ("sampling", "top-k", {"sampler": None}, "the ids that its sampler draws"),
    ],
)
def test_a_fault_is_refused_where_the_ability_that_it_harms_is_absent(
    at: str, how: str, lacking: dict[str, Any], said: str
) -> None:
    adapter = replace(Simple().adapter(), **lacking)
    with pytest.raises(ValueError, match=said):
        mutated(adapter, {"at": at, "how": how})
