"""What a request asks for is what the engine is given: sampling, swapped prompts, the clock."""

import functools
import json
import math
from typing import Any

import pytest
import yaml

from runner.engines.llama_cpp.sampling import stated_defaults
from runner.engines.shared.streamed import StreamedMessage
from runner.stored.canonical import canonical_message
from tests.paths import ROOT
from tests.runner.asking import ENGINES, ask

#: A prompt after which the model hesitates once its logits are divided by 3.
_PROMPT = "prompt = adapter.tokenizer.encode_text('Count and')\n"


@ENGINES
def test_draws_come_from_the_distribution_and_equal_seeds_give_equal_ones(engine: str) -> None:
    """Everything is asked for here, so nothing is left to an engine's defaults."""
    counts, again, other, expected = ask(
        engine,
        _PROMPT + "asked = dict(temperature=3.0, top_k=4, top_p=1.0, min_p=0.0)\n"
        "z = np.sort(adapter.distribution.prefill(prompt)[-1].astype(float) / 3)[::-1][:4]\n"
        "a, b = (adapter.sampler.draw(prompt, asked, 2000, 1) for _ in range(2))\n"
        "counts = sorted((a.count(t) for t in set(a)), reverse=True)\n"
        "p = np.exp(z - z[0])\n"
        "answer = [counts, a == b, a == adapter.sampler.draw(prompt, asked, 2000, 2),\n"
        "          (p / p.sum()).tolist()]\n",
    )
    assert again
    assert not other
    assert sum(counts) == 2000
    chi2 = sum((c - 2000 * p) ** 2 / (2000 * p) for c, p in zip(counts, expected, strict=True))
    assert chi2 < 16.3, "3 degrees of freedom, one false alarm in a thousand seeds"


@ENGINES
def test_a_bias_adds_to_its_logit_and_to_no_other(engine: str) -> None:
    forced, banned, greedy, ratio = ask(
        engine,
        _PROMPT + "z = adapter.distribution.prefill(prompt)[-1].astype(float)\n"
        "first, second = np.argsort(-z)[:2].tolist()\n"
        "half = dict(temperature=1.0, top_k=2, top_p=1.0, min_p=0.0,\n"
        "            logit_bias={second: float(z[first] - z[second])})\n"
        "draw, generate = adapter.sampler.draw, adapter.sampler.generate\n"
        "to_7 = {'logit_bias': {7: 100.0}}\n"
        "banned = {'temperature': 1.0, 'logit_bias': {first: -100.0}}\n"
        "answer = [set(draw(prompt, {'temperature': 1.0, **to_7}, 50, 1)) == {7},\n"
        "  first in draw(prompt, banned, 200, 1),\n"
        "  generate(prompt, {'temperature': 0.0, **to_7}, 4, None),\n"
        "  draw(prompt, half, 1000, 1).count(second) / 1000]\n",
    )
    assert forced
    assert not banned
    assert greedy == [7, 7, 7, 7]
    assert ratio == pytest.approx(0.5, abs=3.3 * math.sqrt(0.25 / 1000))


@ENGINES
def test_an_answer_is_drawn_again_by_its_seed_and_is_greedy_at_temperature_0(engine: str) -> None:
    hot, greedy, chat = ask(
        engine,
        "reply = adapter.chat(Request(USER)); prompt = reply.prompt_ids\n"
        "asked = dict(temperature=4.0, top_k=1000, top_p=1.0, min_p=0.0)\n"
        "generate = adapter.sampler.generate\n"
        "answer = [[generate(prompt, asked, 12, seed) for seed in (5, 5, 6)],\n"
        "          generate(prompt, {'temperature': 0.0}, 64, None), reply.output_ids]\n",
    )
    assert hot[0] == hot[1] != hot[2]
    assert greedy == chat


def test_what_is_not_asked_for_is_left_to_the_engine_s_own_defaults() -> None:
    """Both cut: llama-cpp-python by min_p and more, transformers to 50 ids. That is to be seen."""
    program = _PROMPT + (
        "z = adapter.distribution.prefill(prompt)[-1][:200].astype(float)\n"
        "flat = {i: float(100 - z[i] - i / 1000) for i in range(200)}\n"
        "asked = {'temperature': 1.0, 'logit_bias': flat}\n"
        "drawn = adapter.sampler.draw(prompt, asked, 3000, 1)\n"
        "answer = [len(set(drawn)), max(drawn)]\n"
    )
    assert ask("transformers", program) == [50, 49]
    assert ask("llama_cpp", program) == [38, 37], "top_k 40, of which top_p keeps 95 %"


@ENGINES
def test_a_prompt_put_in_place_is_what_the_engine_answers(engine: str) -> None:
    """With a script, streamed and whole: the seams do not get into each other's way."""
    found = ask(
        engine,
        "other = Request([{'role': 'user', 'content': 'Is 48 greater than 17?'}])\n"
        "truth = adapter.chat(other); text = adapter.template.render(other)\n"
        "script = [*adapter.vocabulary.ids_of('Hello'), adapter.vocabulary.eos_ids()[1]]\n"
        "answer = []\n"
        "for stream in (False, True):\n"
        "    for swap in ({'prompt_text': text}, {'prompt_ids': truth.prompt_ids}):\n"
        "        a = adapter.chat(Request(USER, stream=stream, **swap))\n"
        "        b = adapter.chat(Request(USER, stream=stream, script=script, **swap))\n"
        "        answer.append([a.text, a.prompt_ids == truth.prompt_ids, b.text,\n"
        "                       b.prompt_ids == truth.prompt_ids])\n"
        "answer.append(adapter.chat(Request(USER)).text)\n",
    )
    assert found == [["Yes.", True, "Hello", True]] * 4 + ["7"]


_DATED = "It is {{ strftime_now('%Y-%m-%d %H:%M:%S') }}."
_SET_TEMPLATE = {
    "transformers": f'adapter.template._tokenizer.chat_template = "{_DATED}"\n',
    "llama_cpp": "lib, llama = adapter.template._lib, adapter.template._llama\n"
    "form = lib.llama_chat_format.Jinja2ChatFormatter(\n"
    f'    template="{_DATED}", eos_token="", bos_token="")\n'
    "llama._chat_handlers[llama.chat_format] = form.to_chat_handler()\n",
}


@ENGINES
def test_a_template_that_prints_the_date_is_the_same_on_every_day(engine: str) -> None:
    rendered, served, module = ask(
        engine,
        _SET_TEMPLATE[engine] + "import datetime\n"
        "from runner.engines.shared.clock import FROZEN_AT\n"
        "lib = adapter.template._lib\n"
        "module = {'llama_cpp': lambda: lib.llama_chat_format,\n"
        f"    'transformers': lambda: lib.utils.chat_template_utils}}[{engine!r}]()\n"
        "text = adapter.template.render(Request(USER))\n"
        "reply = adapter.chat(Request(USER, max_tokens=1))\n"
        "answer = [text, reply.prompt_ids == adapter.tokenizer.encode_chat(text),\n"
        "          module.datetime is datetime.datetime]\n",
    )
    assert rendered == "It is 2025-01-02 03:04:05."
    assert served
    assert module, "outside a request the engine sees the real clock"


def _parse_cases() -> list[dict[str, Any]]:
    suite = yaml.safe_load((ROOT / "suites/smoke.yaml").read_text(encoding="utf-8"))
    cases = [case for case in suite["cases"] if case["stage"] == "parse"]
    assert cases
    return cases


@functools.cache
def _parsed(engine: str, *, stream: bool = False) -> dict[str, tuple[dict[str, Any], str]]:
    cases = [
        [c["id"], c["golden"]["script_ids"], c.get("template_options", {})] for c in _parse_cases()
    ]
    found = ask(
        engine,
        f"cases = json.loads({json.dumps(json.dumps(cases))})\n"
        "answer = []\n"
        "for name, script, options in cases:\n"
        "    reply = adapter.chat(Request(USER, template_options=options, script=script,\n"
        f"                                 max_tokens=len(script), stream={stream}))\n"
        "    answer.append([name, reply.message, reply.finish_reason])\n",
    )
    return {name: (canonical_message(message), reason) for name, message, reason in found}


def test_transformers_parses_every_message_but_never_says_that_it_calls() -> None:
    found = _parsed("transformers")
    for case in _parse_cases():
        message, reason = found[case["id"]]
        assert message == case["golden"]["message"], case["id"]
        assert reason == case["golden"]["finish_reason"].replace("tool_calls", "stop"), case["id"]


@ENGINES
def test_a_message_put_together_from_a_stream_is_the_one_given_at_once(engine: str) -> None:
    assert _parsed(engine, stream=True) == _parsed(engine)


def test_transformers_parses_what_was_streamed_and_not_the_ids_behind_it() -> None:
    call = json.dumps('<tool_call>\n{"name": "x", "arguments": {}}\n</tool_call>')
    whole, streamed = ask(
        "transformers",
        f"script = adapter.vocabulary.ids_of({call})\n"
        "from runner.engines.transformers import chat_path as module\n"
        "def lossy(lib, tokenizer, started, pieces):\n"
        "    pieces.append((0.0, 'lost'))\n"
        "    return real(lib, tokenizer, started, [])\n"
        "real, module.streamer = module.streamer, lossy\n"
        "asked = dict(script=script, max_tokens=len(script))\n"
        "try:\n"
        "    answer = [adapter.chat(Request(USER, stream=s, **asked)).message\n"
        "              for s in (False, True)]\n"
        "finally:\n"
        "    module.streamer = real\n",
    )
    assert [call["name"] for call in canonical_message(whole)["tool_calls"]] == ["x"]
    assert canonical_message(streamed) == canonical_message({"content": "lost"})


def test_a_streamed_message_is_assembled_from_all_deltas() -> None:
    first = {"index": 0, "id": "a", "function": {"name": "add", "arguments": '{"a"'}}
    streamed = StreamedMessage()
    brought = [
        streamed.add(delta)
        for delta in (
            {"role": "assistant", "content": None},
            {"reasoning_content": "Let me "},
            {"reasoning_content": "see.", "reasoning": "see."},
            {"content": "I "},
            {"content": "call."},
            {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "stop"}}, first]},
            {"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": ": 1}"}}]},
            {},
        )
    ]
    assert brought == [False, *[True] * 6, False]
    assert streamed.message() == {
        "role": "assistant",
        "content": "I call.",
        "reasoning_content": "Let me see.",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
            {"id": "b", "type": "function", "function": {"name": "stop", "arguments": ""}},
        ],
    }


def test_llama_cpp_hands_markup_out_as_content() -> None:
    found = _parsed("llama_cpp")
    wrong = {c["id"] for c in _parse_cases() if found[c["id"]][0] != c["golden"]["message"]}
    marked = {c["id"] for c in _parse_cases() if set(c["tags"]) & {"calls", "reasoning"}}
    assert wrong == marked - {"parse/call-cut-short"}


def test_without_a_response_template_there_is_no_message() -> None:
    assert ask(
        "transformers",
        "adapter.template._tokenizer.response_template = None\n"
        "answer = adapter.chat(Request(USER)).message is None\n",
    )


def test_sampling_that_a_gguf_file_states_is_told_in_common_names() -> None:
    stated = {"general.sampling.temp": "0.600000", "general.sampling.top_k": "20"}
    assert stated_defaults(stated) == {"do_sample": True, "temperature": 0.6, "top_k": 20}
    assert stated_defaults({"general.name": "x"}) is None
