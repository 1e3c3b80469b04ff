"""The engine's sampler on its own logits: does it apply what is asked for, and nothing else?"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from runner.engines.abilities import Adapter, distribution_of, sampler_of
from runner.engines.base import Logits
from runner.engines.orders import CaseInput
from runner.engines.probes.distribution import (
    count_nonfinite,
    distribution_payload,
    log_sum_exp,
    ranked_payload,
)
from runner.engines.probes.subject import Subject, kept_positions
from runner.engines.trace import Trace

#: Ids that are kept of a distribution which is drawn from.
_DRAWN_TOP_K = 4096
#: Fixed, so that an engine which qualifies does so again.
_SEED = 20_240_917
#: Equal seeds must give equal answers, and other seeds need not.
_SEEDS = (_SEED, _SEED, _SEED + 1, _SEED + 2)


def sampling(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Ask the engine's sampler in the way that the case measures it."""
    measure = str(case.measure)
    if subject.freeze:
        yield _inputs(subject.adapter, case)
        return
    asked = _asked(case)
    sampler = subject.adapter.sampler
    if sampler is None or not set(asked) <= set(sampler.parameters):
        yield Trace("sampling", case.id, measure, unseen="absent")
        return
    probe = {"draws": _draws, "greedy": _greedy, "seed": _seeds}[measure]
    yield from probe(subject.adapter, case, asked)


def _asked(case: CaseInput) -> dict[str, Any]:
    """Return what the case asks for, biases by token id."""
    if not case.bias:
        return dict(case.asked)
    ids = case.truth.bias_ids or {}
    return {**case.asked, "logit_bias": {ids[text]: bias for text, bias in case.bias.items()}}


def _inputs(adapter: Adapter, case: CaseInput) -> Trace:
    """Return the inputs of a sampling case, and its prompt's distributions for the instrument."""
    ids = list(case.truth.prompt)
    trace = Trace("sampling", case.id, "inputs", prompt_ids=ids)
    trace.value = {"bias_ids": case.truth.bias_ids}
    if adapter.summaries is not None:
        made = adapter.summaries.prefill(ids)
        trace.value |= kept_positions(made)
        trace.arrays = made.arrays
    else:
        rows = distribution_of(adapter).prefill(ids)[:-1]
        trace.arrays = distribution_payload(rows, np.array(ids[1:], np.int32), None)
    return trace


def _draws(adapter: Adapter, case: CaseInput, asked: dict[str, Any]) -> Iterator[Trace]:
    prompt, n = list(case.truth.prompt), case.draws
    last = distribution_of(adapter).prefill(prompt)[-1:]
    counts = Counter(sampler_of(adapter).draw(prompt, asked, n, _SEED))
    value = {
        "counts": {str(token): count for token, count in sorted(counts.items())},
        "draws": n,
        "seed": _SEED,
        "lse": _storable(last)[0],
        "nonfinite": count_nonfinite(last),
        **_bias(asked),
    }
    arrays = ranked_payload(last, _DRAWN_TOP_K)
    yield Trace("sampling", case.id, "draws", prompt_ids=prompt, value=value, arrays=arrays)


def _greedy(adapter: Adapter, case: CaseInput, asked: dict[str, Any]) -> Iterator[Trace]:
    prompt = list(case.truth.prompt)
    output = sampler_of(adapter).generate(
        prompt, {"temperature": 0.0, **asked}, case.max_tokens, None
    )
    rows = distribution_of(adapter).prefill([*prompt, *output])[len(prompt) - 1 : -1]
    value = {
        "lse": _storable(rows),
        "nonfinite": count_nonfinite(rows),
        **_bias(asked),
    }
    yield Trace(
        "sampling",
        case.id,
        "greedy",
        prompt_ids=prompt,
        output_ids=output,
        value=value,
        arrays=distribution_payload(rows, np.array(output, np.int32), None),
    )


def _seeds(adapter: Adapter, case: CaseInput, asked: dict[str, Any]) -> Iterator[Trace]:
    prompt = list(case.truth.prompt)
    for repeat, seed in enumerate(_SEEDS):
        output = sampler_of(adapter).generate(prompt, asked, case.max_tokens, seed)
        trace = Trace(
            "sampling",
            case.id,
            "seed",
            repeat=repeat,
            prompt_ids=prompt,
            output_ids=output,
            value={"seed": seed},
        )
        if repeat == 0 and output:
            # How probable this answer is says whether equal ones under other seeds are chance.
            rows = distribution_of(adapter).prefill([*prompt, *output])[len(prompt) - 1 : -1]
            trace.arrays = distribution_payload(rows, np.array(output, np.int32), None)
        yield trace


def _storable(rows: Logits) -> list[float | None]:
    """Return the log-sum-exp of each row; None where it is not finite."""
    return [x if math.isfinite(x) else None for x in log_sum_exp(rows).tolist()]


def _bias(asked: dict[str, Any]) -> dict[str, Any]:
    found = asked.get("logit_bias", {})
    return {"bias": {str(token): bias for token, bias in found.items()}} if found else {}
