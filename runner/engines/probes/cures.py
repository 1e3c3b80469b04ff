"""Swaps in the candidate's chain: the truth's output of one stage is put in its place."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runner.engines.abilities import Adapter
from runner.engines.base import Unseen
from runner.engines.orders import CaseInput, Truth
from runner.engines.probes.chain import answered, differing_fields
from runner.engines.probes.subject import Subject, caught, greedy_ids, request
from runner.engines.trace import Trace

#: Chain cases of a cell whose stages are swapped: more cases would add nothing.
_CASES = 3
_STAGES = ("template", "tokenize", "logits", "sampling")


def cures(subject: Subject) -> Iterator[Trace]:
    """Swap the stages of the first chain cases whose answer is not the truth's.

    Cases where only the message differs come last: it is the parser's, and no swap is after it.
    """
    found = sorted(
        subject.worth_swapping,
        key=lambda pair: differing_fields(pair[1], pair[0].truth) == {"message"},
    )
    for case, whole in found[:_CASES]:
        for stage in _STAGES:
            cured = _cured(subject.adapter, case, stage, whole)
            yield from caught(cured, "chain", case.id, f"cure/{stage}")


def _cured(adapter: Adapter, case: CaseInput, stage: str, whole: Trace) -> Iterator[Trace]:
    """Put the truth's output of one stage in its place and run the rest of the chain as it is."""
    truth, asked, value = case.truth, request(case), None
    if stage == "template":
        asked = replace(asked, prompt_text=_known(truth, "prompt_text"))
    elif stage == "tokenize":
        asked = replace(asked, prompt_ids=_known(truth, "prompt_ids"))
    else:
        if stage == "logits":
            script = _known(truth, "output_ids")
        else:
            # The truth's sampler is greedy: it takes the argmax of the candidate's own logits.
            if whole.prompt_ids is None:
                raise Unseen("hidden", "the ids of the prompt are not shown")
            own = whole.output_ids or []
            script = greedy_ids(adapter, whole.prompt_ids, asked.max_tokens, own)
        asked = replace(asked, script=script)
        value = {"script_ids": script}
    trace = answered(adapter, case, f"cure/{stage}", asked)
    trace.value = value
    yield trace


def _known(truth: Truth, name: str) -> Any:
    found = getattr(truth, name)
    if found is None:
        raise ValueError(f"the truth's {name} is missing, so nothing can be put in its place")
    return found
