"""Inputs for a freeze: each stage takes what the engine itself made before it."""

from dataclasses import replace

from runner.engines.abilities import Adapter, template_of, tokenizer_of, vocabulary_of
from runner.engines.base import Request
from runner.engines.orders import CaseInput, Script, Truth
from runner.engines.probes.subject import greedy_ids, request


def with_own_truth(adapter: Adapter, case: CaseInput) -> CaseInput:
    """Return the case with the engine's own input to its stage where the truth has none.

    Raises:
        ValueError: a text that a bias is asked for is not one token.
    """
    truth, stage = case.truth, case.stage
    if stage == "tokenize" and case.messages and truth.prompt_text is None:
        truth = replace(truth, prompt_text=template_of(adapter).render(request(case)))
    if case.script is not None and truth.script_ids is None:
        truth = replace(truth, script_ids=_script(adapter, case.script))
    if stage in _FORCED and truth.prompt_ids is None:
        truth = _FORCED[stage](adapter, replace(case, truth=truth))
    return replace(case, truth=truth)


def _script(adapter: Adapter, script: Script) -> list[int]:
    ids = vocabulary_of(adapter).ids_of(script.text)
    if script.eos is not None:
        ids = [*ids, vocabulary_of(adapter).eos_ids()[script.eos]]
    return [*ids, *vocabulary_of(adapter).ids_of(script.after)]


def _answer(adapter: Adapter, asked: Request) -> tuple[list[int], list[int]]:
    reply = adapter.chat(asked)
    if reply.prompt_ids is None or reply.output_ids is None:
        raise ValueError("an engine that hides its token ids cannot make the truth")
    return reply.prompt_ids, reply.output_ids


def _logits(adapter: Adapter, case: CaseInput) -> Truth:
    if case.text is not None:
        prompt, output = tokenizer_of(adapter).encode_text(case.text), list[int]()
    else:
        prompt, output = _answer(adapter, request(case))
    return replace(case.truth, prompt_ids=prompt, output_ids=output)


def _state(adapter: Adapter, case: CaseInput) -> Truth:
    if case.text is None:
        prompt, output = _answer(adapter, request(case))
    else:
        prompt = tokenizer_of(adapter).encode_text(case.text)
        output = greedy_ids(adapter, prompt, case.max_tokens)
    # The others share the case's tools and switches, so they share the beginning of its prompt.
    others = [request(replace(case, messages=m)) for m in case.around.beside]
    beside = [_answer(adapter, other) for other in others]
    return replace(case.truth, prompt_ids=prompt, output_ids=output, beside_ids=beside)


def _sampling(adapter: Adapter, case: CaseInput) -> Truth:
    biases = {}
    for text in case.bias:
        ids = vocabulary_of(adapter).ids_of(text)
        if len(ids) != 1:
            raise ValueError(f"logit_bias: {text!r} is {len(ids)} tokens, and a bias is for one")
        biases[text] = ids[0]
    if case.text is not None:
        prompt = tokenizer_of(adapter).encode_text(case.text)
    else:
        prompt = tokenizer_of(adapter).encode_chat(template_of(adapter).render(request(case)))
    return replace(case.truth, prompt_ids=prompt, bias_ids=biases)


#: Stages that need token ids, and what makes them.
_FORCED = {"logits": _logits, "state": _state, "sampling": _sampling}
