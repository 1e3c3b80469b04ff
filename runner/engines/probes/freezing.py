"""The truth's inputs while there is no truth: what this engine itself makes before a stage."""

from typing import Any

from runner.engines.base import Adapter, Request
from runner.engines.probed import CaseInput
from runner.engines.probes.subject import greedy_ids, request


def complete_truth(adapter: Adapter, case: CaseInput) -> None:
    """Give a case that has no truth yet the engine's own input to its stage.

    Raises:
        ValueError: a text that a bias is asked for is not one token.
    """
    truth, script, stage = case["truth"], case.get("script"), case["stage"]
    if stage == "tokenize" and case.get("messages") and "prompt_text" not in truth:
        truth["prompt_text"] = adapter.render(request(case))
    if script and "script_ids" not in truth:
        ids = adapter.encode_output(script["text"])
        if script.get("eos") is not None:
            ids = [*ids, adapter.eos_ids()[script["eos"]]]
        truth["script_ids"] = [*ids, *(adapter.encode_output(script["after"]))]
    if stage == "logits" and "prompt_ids" not in truth:
        if case.get("text") is not None:
            truth.update(prompt_ids=adapter.encode_text(case["text"]), output_ids=[])
        else:
            truth["prompt_ids"], truth["output_ids"] = _answer(adapter, request(case))
    if stage == "state" and "prompt_ids" not in truth:
        truth.update(_state(adapter, case))
    if stage == "sampling" and "prompt_ids" not in truth:
        truth.update(_sampling(adapter, case))


def _answer(adapter: Adapter, asked: Request) -> tuple[list[int], list[int]]:
    reply = adapter.chat(asked)
    if reply.prompt_ids is None or reply.output_ids is None:
        raise ValueError("an engine that hides its token ids cannot make the truth")
    return reply.prompt_ids, reply.output_ids


def _state(adapter: Adapter, case: CaseInput) -> dict[str, Any]:
    if case.get("text") is None:
        prompt, output = _answer(adapter, request(case))
    else:
        prompt = adapter.encode_text(case["text"])
        output = greedy_ids(adapter, prompt, case["max_tokens"])
    # The others share the case's tools and switches: so they share the beginning of its prompt.
    others = [request({**case, "messages": m}) for m in case["scenario"].get("beside", ())]
    beside = [list(_answer(adapter, other)) for other in others]
    return {"prompt_ids": prompt, "output_ids": output, "beside_ids": beside}


def _sampling(adapter: Adapter, case: CaseInput) -> dict[str, Any]:
    biases = {}
    for text in case["asked"].get("logit_bias", {}):
        ids = adapter.encode_output(text)
        if len(ids) != 1:
            raise ValueError(f"logit_bias: {text!r} is {len(ids)} tokens, and a bias is for one")
        biases[text] = ids[0]
    if case.get("text") is not None:
        prompt = adapter.encode_text(case["text"])
    else:
        prompt = adapter.encode_chat(adapter.render(request(case)))
    return {"prompt_ids": prompt, "bias_ids": biases}
