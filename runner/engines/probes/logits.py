"""Distributions over the truth's own ids, and whether the measurement itself can be trusted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from runner.engines.abilities import Adapter, distribution_of
from runner.engines.base import Logits
from runner.engines.orders import CaseInput
from runner.engines.probes.distribution import (
    OWN_TOP_K,
    count_nonfinite,
    distribution_payload,
    largest,
    mass_error,
)
from runner.engines.probes.subject import Subject, caught, kept_positions, request
from runner.engines.protocol import Arrays
from runner.engines.trace import Trace

_INSTRUMENT_CASES = 3
_ALIGNED_TOKENS = 12


def instrument(subject: Subject, cases: Sequence[CaseInput]) -> Iterator[Trace]:
    """Ask the same numbers again, in another order and uncached; then check where rows belong.

    It takes cases whose truth holds a forced sequence, those of ``logits`` first.
    """
    known = [case for case in cases if case.truth.top_ids_prefill]
    known.sort(key=lambda case: case.stage != "logits")
    chosen = known[:_INSTRUMENT_CASES]
    for probe, order, cold in (
        ("first", chosen, False),
        ("again", chosen, False),
        ("reordered", chosen[::-1], False),
        ("uncached", chosen, True),
    ):
        for case in order:
            repeated = _repeated(subject.adapter, case, probe, cold=cold)
            yield from caught(repeated, "instrument", case.id, probe)
    for case in chosen:
        yield from caught(_aligned(subject.adapter, case), "instrument", case.id, "aligned")


def _repeated(adapter: Adapter, case: CaseInput, probe: str, *, cold: bool) -> Iterator[Trace]:
    arrays, ids, logits = _forced(adapter, case, cold=cold)
    value = {
        "mass_error": mass_error(arrays),
        "nonfinite": count_nonfinite(logits),
        **_positions(case),
    }
    yield Trace("instrument", case.id, probe, prompt_ids=ids, value=value, arrays=arrays)


def _aligned(adapter: Adapter, case: CaseInput) -> Iterator[Trace]:
    """Let the engine generate an answer, and keep which rows of its forced logits predict it.

    Logits that are returned one position too late or too early agree with themselves in every
    repeat. Only what the engine itself generates shows the shift.
    """
    prompt = list(case.truth.prompt)
    limit = min(_ALIGNED_TOKENS, case.max_tokens)
    reply = adapter.chat(replace(request(case), max_tokens=limit, stop=(), prompt_ids=prompt))
    start = max(0, len(prompt) - 2)
    rows = distribution_of(adapter).prefill([*prompt, *reply.shown_ids])[start:]
    yield Trace(
        "instrument",
        case.id,
        "aligned",
        prompt_ids=prompt,
        output_ids=reply.output_ids,
        value={"first": len(prompt) - 1 - start},
        arrays={"top_ids": largest(rows.astype(np.float64), OWN_TOP_K)},
    )


def logits(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Force the truth's ids, once in one pass and once token by token."""
    truth, adapter = case.truth, subject.adapter
    ids, output = [*truth.prompt, *truth.output], list(truth.output)
    trace = Trace("logits", case.id, "prefill", prompt_ids=ids, output_ids=output)
    if subject.freeze and adapter.summaries is not None:
        made = adapter.summaries.prefill(ids)
        trace.value = {"start": 0, "nonfinite": made.nonfinite, **kept_positions(made)}
        trace.arrays = made.arrays
    else:
        trace.arrays, _, rows = _forced(adapter, case)
        trace.value = {"start": 0, "nonfinite": count_nonfinite(rows), **_positions(case)}
    yield trace
    if output:
        yield _decoded(subject, case, ids, output)


def _decoded(subject: Subject, case: CaseInput, ids: list[int], output: list[int]) -> Trace:
    truth = case.truth
    if made := subject.numbers(truth.prompt, output):
        arrays, nonfinite = made.arrays, made.nonfinite
    else:
        rows = distribution_of(subject.adapter).decode(truth.prompt, output)
        top = truth.top_ids_decode
        arrays = distribution_payload(
            rows, np.array(output, np.int32), None if top is None else np.array(top, np.int32)
        )
        nonfinite = count_nonfinite(rows)
    return Trace(
        "logits",
        case.id,
        "decode",
        prompt_ids=ids,
        output_ids=output,
        value={"start": len(truth.prompt) - 1, "nonfinite": nonfinite},
        arrays=arrays,
    )


def _positions(case: CaseInput) -> dict[str, Any]:
    at = case.truth.positions
    return {} if at is None else {"positions": at}


def _forced(
    adapter: Adapter, case: CaseInput, *, cold: bool = False
) -> tuple[Arrays, list[int], Logits]:
    """Return the numbers at the truth's positions, the forced ids, and logits [n, V] of all."""
    truth = case.truth
    ids = [*truth.prompt, *truth.output]
    rows = distribution_of(adapter).prefill(ids, cold=cold)[:-1]
    following, top = np.array(ids[1:], np.int32), truth.top_ids_prefill
    at = slice(None) if truth.positions is None else truth.positions
    payload = distribution_payload(
        rows[at], following[at], None if top is None else np.array(top, np.int32)
    )
    return payload, ids, rows
