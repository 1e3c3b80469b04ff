"""Messages in, message out: the chain as its user sees it."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from runner.engines.abilities import Adapter, distribution_of, template_of
from runner.engines.base import Reply, Request, Unseen
from runner.engines.orders import CaseInput, Truth
from runner.engines.probes.distribution import distribution_payload
from runner.engines.probes.subject import Subject, request
from runner.engines.protocol import Arrays
from runner.engines.trace import Timing, Trace
from runner.stored.canonical import canonical_message


def chain(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Ask the whole chain, at once and as a stream; select the case for swaps if answers differ."""
    adapter, asked = subject.adapter, request(case)
    # The timed request comes first: later its prompt would be in the engine's cache.
    if subject.timed:
        yield _streamed(adapter, case, asked)
    whole = answered(adapter, case, "whole", asked)
    if case.truth.output_ids is None and whole.output_ids and not subject.timed:
        whole.arrays = _rows(subject, whole)
    yield whole
    if not subject.timed:
        yield _streamed(adapter, case, asked)
    if not subject.timed and differing_fields(whole, case.truth):
        subject.worth_swapping.append((case, whole))


def _streamed(adapter: Adapter, case: CaseInput, asked: Request) -> Trace:
    reply = adapter.chat(replace(asked, stream=True))
    return Trace(
        "chain",
        case.id,
        "stream",
        text=reply.text,
        message=_message(reply),
        finish_reason=reply.finish_reason,
        timing=_timing(reply),
    )


def answered(adapter: Adapter, case: CaseInput, probe: str, asked: Request) -> Trace:
    """Send one request through the chat path and return its whole answer as the trace of ``probe``.

    The prompt's text is the one put in its place where there is one; it is unknown where only ids
    were.
    """
    reply = adapter.chat(asked)
    text = asked.prompt_text
    if text is None and asked.prompt_ids is None:
        with contextlib.suppress(Unseen):
            text = template_of(adapter).render(asked)
    return Trace(
        "chain",
        case.id,
        probe,
        prompt_text=text,
        prompt_ids=reply.prompt_ids,
        output_ids=reply.output_ids,
        text=reply.text,
        message=_message(reply),
        finish_reason=reply.finish_reason,
        value=_counts(reply),
    )


def differing_fields(whole: Trace, truth: Truth) -> set[str]:
    """Return the fields in which an answer is not the truth's; a missing field is no difference.

    This only selects the cases whose stages are swapped: no verdict rests on it. SQL judges whether
    a difference is a symptom.
    """
    message = truth.message
    expected = replace(truth, message=None if message is None else canonical_message(message))
    return {
        name
        for name in ("prompt_ids", "output_ids", "text", "finish_reason", "message")
        if None not in (getattr(expected, name), getattr(whole, name))
        and getattr(expected, name) != getattr(whole, name)
    }


def _message(reply: Reply) -> dict[str, Any] | None:
    return None if reply.message is None else canonical_message(reply.message)


def _rows(subject: Subject, whole: Trace) -> Arrays:
    prompt, output = whole.prompt_ids or [], whole.output_ids or []
    if made := subject.numbers(prompt, output):
        return made.arrays
    rows = distribution_of(subject.adapter).prefill([*prompt, *output])[len(prompt) - 1 : -1]
    return distribution_payload(rows, np.array(output, np.int32), None)


def _counts(reply: Reply) -> dict[str, Any] | None:
    """Return the numbers of tokens where the ids themselves are hidden."""
    if reply.prompt_ids is not None and reply.output_ids is not None:
        return None
    return {"prompt_tokens": reply.prompt_count, "output_tokens": reply.output_count}


def _timing(reply: Reply) -> Timing:
    arrivals = reply.arrivals_s
    prompt, output = reply.prompt_ids, reply.output_ids
    return Timing(
        prompt_tokens=reply.prompt_count if prompt is None else len(prompt),
        output_tokens=reply.output_count if output is None else len(output),
        ttft_s=arrivals[0] if arrivals else None,
        itl_s=[b - a for a, b in itertools.pairwise(arrivals)],
        e2el_s=reply.total_s,
    )
