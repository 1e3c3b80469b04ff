"""Mutations of an adapter: each harms its own stage, the same way each time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from runner.engines.base import Adapter, Request
from runner.engines.faults.adapter import MUTATIONS, mutated
from runner.engines.faults.adapter.sampler import probabilities
from runner.stored.canonical import canonical_message
from tests.runner.engines.faults.adapter.simple_adapter import BOS, EOS, Simple

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
ALL = [(at, how) for at, known in MUTATIONS.items() for how in known]


def make(at: str, how: str, **keys: Any) -> Adapter:
    inner = Simple()
    inner.message = dict(MESSAGE) if at == "parse" else None
    strong = {"argmax-removed": 0.5, "second-best": 0.5, "stray-token": 0.5, "softcap": 0.5}
    if how in strong:
        keys.setdefault("by", strong[how])
    narrow = {"step-from": 1, "window-evicted": 1}
    if how in narrow:
        keys.setdefault("first", narrow[how])
    return mutated(inner, {"at": at, "how": how, **keys})


def told(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return str(value.round(6).tolist())  # as text, since NaN is no equal of itself
    if isinstance(value, list | tuple):
        return [told(item) for item in value]
    return value


def everything(adapter: Adapter) -> dict[str, Any]:
    """What each method answers to one question; twice where order may matter."""
    scripts = {
        "emoji": [4, 8, 9, 5, EOS],
        "spaces": [4, 3, 5, 3, 4],
        "eos": [4, EOS, 5, 6],
        "long": [4] * 30,
    }
    asked = {"temperature": 0.7, "logit_bias": {4: 5.0}, "repetition_penalty": 1.2}
    found: dict[str, Any] = {
        "render": adapter.render(HELLO),
        "encode_chat": adapter.encode_chat("one two three"),
        "encode_text": adapter.encode_text("one two three"),
        "prefill": adapter.prefill(OTHER),
        "again": adapter.prefill(OTHER),
        "after": adapter.prefill(PROMPT * 2),
        "cold": adapter.prefill(OTHER, cold=True),
        "decode": adapter.decode(PROMPT, OUTPUT),
        "batch": adapter.batch([(PROMPT, OUTPUT), (OTHER, OUTPUT[:2]), (OTHER, OUTPUT)]),
        "chunked": adapter.chunked(PROMPT + OUTPUT, 3),
        "warm": adapter.warm([OTHER, PROMPT], PROMPT + OUTPUT),
        "reused": adapter.reused(OTHER, PROMPT + OUTPUT),
        "serve": adapter.serve([PROMPT, OTHER, OTHER[1:]], 2, 6),
        "draw": adapter.draw(PROMPT, {}, 40, 1),
        "draw asked": adapter.draw(PROMPT, asked, 10, 1),
        "greedy": adapter.generate(PROMPT, {"temperature": 0.0}, 12, None),
        "chat": adapter.chat(HELLO),
        "stop": adapter.chat(Request(messages=(), script=[3, 4, 6, 5, 6], stop=["bd"])),
        "almost": adapter.chat(Request(messages=(), script=[3, 4, EOS], stop=["bd"])),
        "streamed": adapter.chat(Request(messages=(), script=scripts["emoji"], stream=True)),
    }
    found |= {name: adapter.chat(Request(messages=(), script=ids)) for name, ids in scripts.items()}
    inner = getattr(adapter, "inner", adapter)
    found["asked"] = list(inner.asked)
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
    clean = Simple()
    clean.message = dict(MESSAGE) if at == "parse" else None
    before, after = everything(clean), everything(make(at, how))
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= REACH[at]
    assert bool(changed) != (how in SILENT)


@pytest.mark.parametrize(("at", "how"), ALL)
def test_a_mutation_does_the_same_each_time(at: str, how: str) -> None:
    assert everything(make(at, how)) == everything(make(at, how))


def test_strength_and_range_are_those_asked_for() -> None:
    clean = Simple().prefill(OTHER)
    harmed = make("logits", "noise-range", by=1e-3, first=2, last=3).prefill(OTHER)
    differing = np.flatnonzero(np.abs(harmed - clean).max(axis=1))
    assert differing.tolist() == [2, 3]
    assert 0 < np.abs(harmed - clean).max() < 1e-2


def test_decode_noise_leaves_a_prefill_alone() -> None:
    adapter, clean = make("logits", "decode-noise"), Simple()
    np.testing.assert_array_equal(adapter.prefill(OTHER), clean.prefill(OTHER))
    changed = np.abs(adapter.decode(PROMPT, OUTPUT) - clean.decode(PROMPT, OUTPUT)).max(axis=1)
    assert changed[0] == 0
    assert (changed[1:] > 0).all()


def test_answers_follow_from_harmed_logits() -> None:
    adapter = make("logits", "zero-id-range", first=3, last=9)
    answer = adapter.generate(PROMPT, {"temperature": 0.0}, 4, None)
    rows = adapter.prefill([*PROMPT, *answer])[len(PROMPT) - 1 : -1]
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
    adapter = make("sampling", "top-k", by=7)
    adapter.draw(PROMPT, {"temperature": 0.5}, 3, 1)
    adapter.draw(PROMPT, {"top_k": 2}, 3, 1)
    inner: Any = adapter
    assert [a.get("top_k") for a in inner.inner.asked] == [7, 2]


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

    def decode_ids(self, ids: Sequence[int]) -> str:
        return "".join(self.words[i] if i < len(self.words) else "<|x|>" for i in ids)

    def encode_text(self, text: str) -> list[int]:
        return [0, *(self.words.index(c) for c in text.split())]


def test_longest_match_takes_the_longest_piece() -> None:
    adapter = mutated(Words(), {"at": "tokenize", "how": "longest-match"})
    assert adapter.encode_text("a b c a b") == [0, 4, 3]


def test_the_longest_piece_comes_in_two() -> None:
    adapter = mutated(Words(), {"at": "tokenize", "how": "unmerged"})
    assert adapter.encode_text("a ab abc") == [0, 1, 3, 3, 5]
    assert adapter.encode_text("a c") == [0, 1, 5]


def test_a_long_prompt_loses_its_beginning_on_the_chat_path_alone() -> None:
    adapter = make("tokenize", "chat-beginning-dropped", by=4)
    asked = Request(messages=[{"role": "user", "content": "one two three four five"}])
    whole = adapter.encode_chat(adapter.render(asked))
    assert len(whole) > 4
    assert adapter.chat(asked).prompt_ids == whole[len(whole) // 2 :]


def test_markers_of_parsers_are_skipped() -> None:
    class Marked(Simple):
        def decode_ids(self, ids: Sequence[int]) -> str:
            return f"<think>{super().decode_ids(ids)}"

    adapter = mutated(Marked(), {"at": "detokenize", "how": "specials-stripped"})
    assert adapter.chat(Request(messages=(), script=[4])).text == "b"


def test_an_unknown_mutation_is_refused() -> None:
    with pytest.raises(KeyError):
        mutated(Simple(), {"at": "logits", "how": "nothing-like-it"})
