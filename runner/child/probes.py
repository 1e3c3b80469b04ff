"""The stage probes: each asks one stage of the engine for its answer to the truth's input.

The truth's input to a stage comes with the order, so an upstream fault cannot cascade into a later
stage. When a reference is frozen there is no truth yet: then each stage takes what this engine
itself made before it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from runner.child.adapters.base import Adapter, Reply, Request
from runner.child.failures import is_out_of_memory, told
from runner.child.messages import canonical_message
from runner.child.numeric import count_nonfinite, distribution_payload, mass_error
from runner.child.probed import CaseInput, Probed

Tell = Callable[[str], None]

#: Facts that the model's files state, and every engine should have loaded.
FACTS = (
    "architecture",
    "vocab_size",
    "bos_id",
    "eos_ids",
    "add_bos",
    "rope_theta",
    "rms_eps",
    "context_length",
    "sliding_window",
    "layers",
    "heads",
    "kv_heads",
    "compute_dtype",
    "kv_dtype",
    "template_digest",
    "tokenizer_digest",
    "pre_tokenizer",
    "normalizer",
    "model_name",
)
_INSTRUMENT_CASES = 3
_OPENING = [{"role": "user", "content": "Hello!"}]


def probe_engine(
    adapter: Adapter, cases: Sequence[CaseInput], stages: set[str], tell: Tell
) -> Iterator[Probed]:
    """Probe what needs no case of its own: the instrument and the configuration."""
    if "instrument" in stages:
        tell("instrument")
        asked = [c for c in cases if c["stage"] == "logits" and c["truth"].get("top_ids_prefill")]
        yield from _instrument(adapter, asked[:_INSTRUMENT_CASES])
    if "config" in stages:
        tell("config")
        facts = adapter.facts()
        for name in FACTS:
            probed = Probed("config", f"config/{name}", "fact", hidden=name not in facts)
            if name in facts:
                probed.value = {"seen": facts[name]}
            yield probed


def probe_cell(
    adapter: Adapter, cases: Sequence[CaseInput], *, freeze: bool, tell: Tell
) -> Iterator[Probed]:
    """Probe every case of a cell, stage by stage; what raises becomes the probe's error."""
    for stage, probe in _PROBES.items():
        chosen = [c for c in cases if c["stage"] == stage]
        if chosen:
            tell(stage)
        for case in chosen:
            try:
                if freeze:
                    _complete_truth(adapter, case)
                yield from probe(adapter, case)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                yield Probed(stage, case["id"], "*", error=told(error))


def _complete_truth(adapter: Adapter, case: CaseInput) -> None:
    """Give a case that has no truth yet the engine's own input to its stage."""
    truth, script = case["truth"], case.get("script")
    if case["stage"] == "tokenize" and case.get("messages") and "prompt_text" not in truth:
        truth["prompt_text"] = adapter.render(_request(case))
    if script and "script_ids" not in truth:
        ids = adapter.encode_output(script["text"])
        if script.get("eos") is not None:
            ids = [*ids, adapter.eos_ids()[script["eos"]]]
        truth["script_ids"] = [*ids, *(adapter.encode_output(script["after"]))]
    if case["stage"] == "logits" and "prompt_ids" not in truth:
        if case.get("text") is not None:
            truth.update(prompt_ids=adapter.encode_text(case["text"]), output_ids=[])
        else:
            reply = adapter.chat(_request(case))
            truth.update(prompt_ids=reply.prompt_ids, output_ids=reply.output_ids)


def _instrument(adapter: Adapter, cases: Sequence[CaseInput]) -> Iterator[Probed]:
    """Ask the same numbers again, in another order, and without a cache."""
    for probe, order, cold in (
        ("first", cases, False),
        ("again", cases, False),
        ("reordered", cases[::-1], False),
        ("uncached", cases, True),
    ):
        for case in order:
            try:
                arrays, ids, logits = _forced(adapter, case, cold=cold)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                yield Probed("instrument", case["id"], probe, error=told(error))
                continue
            value = {"mass_error": mass_error(arrays), "nonfinite": count_nonfinite(logits)}
            yield Probed(
                "instrument", case["id"], probe, prompt_ids=ids, value=value, arrays=arrays
            )


def _forced(adapter: Adapter, case: CaseInput, *, cold: bool = False) -> tuple[Any, list[int], Any]:
    truth = case["truth"]
    ids = [*truth["prompt_ids"], *truth["output_ids"]]
    logits = adapter.prefill(ids, cold=cold)[:-1]
    top = truth.get("top_ids_prefill")
    payload = distribution_payload(
        logits, np.array(ids[1:], np.int32), None if top is None else np.array(top, np.int32)
    )
    return payload, ids, logits


def _template(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    yield Probed("template", case["id"], "isolate", prompt_text=adapter.render(_request(case)))


def _tokenize(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    text = case.get("text")
    if text is None:
        text = case["truth"]["prompt_text"]
        ids = adapter.encode_chat(text)
    else:
        ids = adapter.encode_text(text)
    value = {"text": text, "round_trip": adapter.decode_ids(ids)}
    yield Probed("tokenize", case["id"], "isolate", prompt_ids=ids, value=value)


def _logits(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    truth = case["truth"]
    arrays, ids, logits = _forced(adapter, case)
    output = list(truth["output_ids"])
    value = {"start": 0, "nonfinite": count_nonfinite(logits)}
    yield Probed(
        "logits",
        case["id"],
        "prefill",
        prompt_ids=ids,
        output_ids=output,
        value=value,
        arrays=arrays,
    )
    if not output:
        return
    logits = adapter.decode(truth["prompt_ids"], output)
    top = truth.get("top_ids_decode")
    arrays = distribution_payload(
        logits, np.array(output, np.int32), None if top is None else np.array(top, np.int32)
    )
    value = {"start": len(truth["prompt_ids"]) - 1, "nonfinite": count_nonfinite(logits)}
    yield Probed(
        "logits",
        case["id"],
        "decode",
        prompt_ids=ids,
        output_ids=output,
        value=value,
        arrays=arrays,
    )


def _stop(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    reply = adapter.chat(_request(case))
    yield Probed(
        "stop",
        case["id"],
        "isolate",
        output_ids=reply.output_ids,
        text=reply.text,
        finish_reason=reply.finish_reason,
        value=_script_value(case),
    )


def _detokenize(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    for probe in ("whole", "stream"):
        reply = adapter.chat(_request(case, stream=probe == "stream"))
        yield Probed(
            "detokenize",
            case["id"],
            probe,
            output_ids=reply.output_ids,
            text=reply.text,
            value=_script_value(case),
        )


def _parse(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    reply = adapter.chat(_request(case))
    yield Probed(
        "parse",
        case["id"],
        "isolate",
        text=reply.text,
        message=None if reply.message is None else canonical_message(reply.message),
        finish_reason=reply.finish_reason,
        value=_script_value(case),
    )


def _chain(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    reply = adapter.chat(_request(case))
    probed = Probed(
        "chain",
        case["id"],
        "whole",
        prompt_ids=reply.prompt_ids,
        output_ids=reply.output_ids,
        text=reply.text,
        message=None if reply.message is None else canonical_message(reply.message),
        finish_reason=reply.finish_reason,
    )
    if "output_ids" not in case["truth"] and reply.output_ids:
        ids = [*reply.prompt_ids, *reply.output_ids]
        first = len(reply.prompt_ids) - 1
        following = np.array(reply.output_ids, np.int32)
        probed.arrays = distribution_payload(adapter.prefill(ids)[first:-1], following, None)
    yield probed
    yield _timed(adapter, case)


def _timed(adapter: Adapter, case: CaseInput) -> Probed:
    reply = adapter.chat(_request(case, stream=True))
    return Probed("chain", case["id"], "stream", text=reply.text, request=_timing(reply))


def _timing(reply: Reply) -> dict[str, Any]:
    arrivals = reply.arrivals_s
    return {
        "prompt_tokens": len(reply.prompt_ids),
        "output_tokens": len(reply.output_ids),
        "ttft_s": arrivals[0] if arrivals else None,
        "itl_s": [b - a for a, b in itertools.pairwise(arrivals)],
        "e2el_s": reply.total_s,
    }


def _request(case: CaseInput, *, stream: bool = False) -> Request:
    script = case["truth"].get("script_ids")
    if case.get("script") and script is None:
        raise ValueError("the truth's ids of the scripted output are missing")
    limit = case["max_tokens"]
    return Request(
        messages=case.get("messages") or _OPENING,
        tools=case.get("tools"),
        template_options=case.get("template_options") or {},
        max_tokens=limit if script is None else min(limit, len(script)),
        stop=case.get("stop") or (),
        script=script,
        stream=stream,
    )


def _script_value(case: CaseInput) -> dict[str, Any] | None:
    script = case["truth"].get("script_ids")
    return None if script is None else {"script_ids": script}


_PROBES: dict[str, Callable[[Adapter, CaseInput], Iterator[Probed]]] = {
    "template": _template,
    "tokenize": _tokenize,
    "logits": _logits,
    "stop": _stop,
    "detokenize": _detokenize,
    "parse": _parse,
    "chain": _chain,
}
