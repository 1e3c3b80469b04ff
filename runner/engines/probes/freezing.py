"""Inputs for a freeze: each stage takes what the engine itself made before it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from runner.engines.abilities import Adapter, template_of, tokenizer_of, vocabulary_of
from runner.engines.base import EngineGone, Request
from runner.engines.failures import is_out_of_memory
from runner.engines.orders import CaseInput, Script, Truth
from runner.engines.probes.batches import batches
from runner.engines.probes.subject import Subject, greedy_ids, request

#: Stages whose truth is, or begins with, the engine's greedy answer.
_ANSWERED = ("logits", "state", "chain")
_Asked = tuple[tuple[int, ...], int]


def make_answers(subject: Subject, cases: Sequence[CaseInput]) -> Iterator[None]:
    """Make the greedy answers of all cases, and yield before each batch.

    A batch costs about as much as one answer: each step reads the weights once. Without
    ``summaries`` nothing is made here, and each case is answered alone.
    """
    summaries = subject.adapter.summaries
    if summaries is None:
        return
    asked: dict[tuple[int, ...], int] = {}
    for prompt, limit in itertools.chain.from_iterable(_asked(subject.adapter, c) for c in cases):
        if prompt not in subject.answers:
            asked[prompt] = max(limit, asked.get(prompt, 0))
    for batch in batches(asked.items(), lambda entry: (len(entry[0]), entry[1])):
        yield
        made = summaries.answers([prompt for prompt, _ in batch], max(limit for _, limit in batch))
        for (prompt, limit), answer in zip(batch, made, strict=True):
            subject.answers[prompt] = answer
            subject.answers[prompt] = subject.answer(prompt, limit) or answer


def _asked(adapter: Adapter, case: CaseInput) -> list[_Asked]:
    """Return the prompts of a case that are answered, each with its most tokens.

    A prompt that cannot be made is left out: the case's own probe reports the error.
    """
    if case.stage not in _ANSWERED or case.stop or case.script is not None:
        return []
    limit, found = case.max_tokens, list[list[int]]()
    try:
        if case.text is None:
            found.append(_prompt(adapter, request(case)))
        elif case.stage == "state":
            found.append(tokenizer_of(adapter).encode_text(case.text))
        if case.stage == "state":
            found += [_prompt(adapter, other) for other in _beside(case)]
    except EngineGone:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return []
    return [(tuple(prompt), limit) for prompt in found if prompt]


def with_own_truth(subject: Subject, case: CaseInput) -> CaseInput:
    """Return the case with the engine's own input to its stage where the truth has none.

    Raises:
        ValueError: a text that a bias is asked for is not one token.
    """
    truth, stage, adapter = case.truth, case.stage, subject.adapter
    if stage == "tokenize" and case.messages and truth.prompt_text is None:
        truth = replace(truth, prompt_text=template_of(adapter).render(request(case)))
    if case.script is not None and truth.script_ids is None:
        truth = replace(truth, script_ids=_script(adapter, case.script))
    if stage in _FORCED and truth.prompt_ids is None:
        truth = _FORCED[stage](subject, replace(case, truth=truth))
    return replace(case, truth=truth)


def _prompt(adapter: Adapter, asked: Request) -> list[int]:
    return tokenizer_of(adapter).encode_chat(template_of(adapter).render(asked))


def _beside(case: CaseInput) -> list[Request]:
    # The others share the case's tools and switches, so they share the beginning of its prompt.
    return [request(replace(case, messages=m)) for m in case.around.beside]


def _script(adapter: Adapter, script: Script) -> list[int]:
    ids = vocabulary_of(adapter).ids_of(script.text)
    if script.eos is not None:
        ids = [*ids, vocabulary_of(adapter).eos_ids()[script.eos]]
    return [*ids, *vocabulary_of(adapter).ids_of(script.after)]


def _answer(subject: Subject, asked: Request) -> tuple[list[int], list[int]]:
    if subject.answers and not asked.stop:
        prompt = _prompt(subject.adapter, asked)
        if made := subject.answer(prompt, asked.max_tokens):
            return prompt, made.output_ids
    reply = subject.adapter.chat(asked)
    if reply.prompt_ids is None or reply.output_ids is None:
        raise ValueError("an engine that hides its token ids cannot make the truth")
    return reply.prompt_ids, reply.output_ids


def _logits(subject: Subject, case: CaseInput) -> Truth:
    if case.text is not None:
        prompt, output = tokenizer_of(subject.adapter).encode_text(case.text), list[int]()
    else:
        prompt, output = _answer(subject, request(case))
    return replace(case.truth, prompt_ids=prompt, output_ids=output)


def _state(subject: Subject, case: CaseInput) -> Truth:
    if case.text is None:
        prompt, output = _answer(subject, request(case))
    else:
        prompt = tokenizer_of(subject.adapter).encode_text(case.text)
        made = subject.answer(prompt, case.max_tokens)
        guess = made.output_ids if made else ()
        output = greedy_ids(subject.adapter, prompt, case.max_tokens, guess)
    beside = [_answer(subject, other) for other in _beside(case)]
    return replace(case.truth, prompt_ids=prompt, output_ids=output, beside_ids=beside)


def _sampling(subject: Subject, case: CaseInput) -> Truth:
    adapter, biases = subject.adapter, {}
    for text in case.bias:
        ids = vocabulary_of(adapter).ids_of(text)
        if len(ids) != 1:
            raise ValueError(f"logit_bias: {text!r} is {len(ids)} tokens, and a bias is for one")
        biases[text] = ids[0]
    if case.text is not None:
        prompt = tokenizer_of(adapter).encode_text(case.text)
    else:
        prompt = _prompt(adapter, request(case))
    return replace(case.truth, prompt_ids=prompt, bias_ids=biases)


def _chain(subject: Subject, case: CaseInput) -> Truth:
    """Return the answer that was made as the script of both requests: the path replays it."""
    if not subject.answers or case.stop or case.script is not None:
        return case.truth
    made = subject.answer(_prompt(subject.adapter, request(case)), case.max_tokens)
    return replace(case.truth, script_ids=made.output_ids) if made else case.truth


#: Stages that need token ids, and what makes them.
_FORCED = {"logits": _logits, "state": _state, "sampling": _sampling, "chain": _chain}
