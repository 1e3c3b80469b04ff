"""One request alone and among others: other requests must not change its numbers.

The truth is the same engine, asked the same sequence alone and cold. Each other trace is gathered
at the ids that were most probable then, at the positions that did not come from a cache.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.engines.abilities import (
    Adapter,
    Chats,
    Chunked,
    Concurrent,
    Scenarios,
    distribution_of,
    vocabulary_of,
)
from runner.engines.base import Logits, Reply
from runner.engines.orders import CaseInput
from runner.engines.probes.distribution import count_nonfinite, distribution_payload
from runner.engines.probes.subject import Subject, kept_positions, request
from runner.engines.trace import Trace
from runner.stored.canonical import canonical_message

_Top = npt.NDArray[np.int32]


def state(subject: Subject, case: CaseInput) -> Iterator[Trace]:
    """Ask the case's sequence alone, and then in every form of its scenario."""
    truth, kind, adapter = case.truth, case.around.kind, subject.adapter
    scenarios = adapter.scenarios
    if subject.freeze:
        alone = _frozen(adapter, case) or _alone(adapter, case, truth.output)
        alone.value = {**(alone.value or {}), "beside_ids": truth.beside_ids}
        yield alone
    elif kind == "concurrent" and scenarios.chats is not None:
        yield from _chats(adapter, scenarios.chats, case)
    elif getattr(scenarios, kind, None) is None:
        yield Trace("state", case.id, kind, unseen="absent")
    elif kind == "concurrent" and scenarios.concurrent is not None:
        yield from _concurrent(adapter, scenarios.concurrent, case)
    else:
        alone = _alone(adapter, case, truth.output)
        yield alone
        yield from _computed(adapter, case, alone.arrays["top_ids"])


def _alone(adapter: Adapter, case: CaseInput, output: Sequence[int]) -> Trace:
    ids = [*case.truth.prompt, *output]
    rows = distribution_of(adapter).prefill(ids, cold=True)[:-1]
    return Trace(
        "state",
        case.id,
        "alone",
        prompt_ids=ids,
        output_ids=list(output),
        value={"start": 0, "nonfinite": count_nonfinite(rows)},
        arrays=distribution_payload(rows, np.array(ids[1:], np.int32), None),
    )


def _frozen(adapter: Adapter, case: CaseInput) -> Trace | None:
    """Return the sequence's own numbers for a reference; None where no ``summaries`` make them."""
    if adapter.summaries is None:
        return None
    ids, output = [*case.truth.prompt, *case.truth.output], list(case.truth.output)
    made = adapter.summaries.prefill(ids)
    value = {"start": 0, "nonfinite": made.nonfinite, **kept_positions(made)}
    return Trace(
        "state",
        case.id,
        "alone",
        prompt_ids=ids,
        output_ids=output,
        value=value,
        arrays=made.arrays,
    )


def _computed(adapter: Adapter, case: CaseInput, top: _Top) -> Iterator[Trace]:
    truth, kind = case.truth, case.around.kind
    ids = [*truth.prompt, *truth.output]
    for repeat, (form, first, rows) in enumerate(_forms(adapter.scenarios, case)):
        value = {"size": None, "row": None, "cached": None, **form}
        if rows is None:
            yield Trace(
                "state",
                case.id,
                kind,
                repeat=repeat,
                value=value,
                unseen="absent",
                error=f"chunks of {form['size']} cut this sequence as it is cut alone",
            )
            continue
        if not len(rows):
            raise ValueError("all positions came from the cache: nothing was computed")
        following = np.array(ids[first + 1 : first + 1 + len(rows)], np.int32)
        yield Trace(
            "state",
            case.id,
            kind,
            repeat=repeat,
            prompt_ids=ids,
            output_ids=list(truth.output),
            value={**value, "start": first, "nonfinite": count_nonfinite(rows)},
            arrays=distribution_payload(rows, following, top[first : first + len(rows)]),
        )


def _forms(
    scenarios: Scenarios, case: CaseInput
) -> Iterator[tuple[dict[str, Any], int, Logits | None]]:
    """Yield each form of the scenario, its first position, and logits [n, V] from there on.

    The last position is left out, as nothing follows it. No logits at all mean that this form is
    computed just as alone, so that nothing could be compared.
    """
    truth, asked = case.truth, case.around
    own = (list(truth.prompt), list(truth.output))
    ids = [*own[0], *own[1]]
    beside = [(list(prompt), list(output)) for prompt, output in truth.beside]
    if asked.kind == "batched" and scenarios.batched:
        for size in asked.sizes:
            for row in range(size):
                together = [*beside[:row], own, *beside[row : size - 1]]
                yield {"size": size, "row": row}, 0, scenarios.batched(together)[row]
    elif asked.kind == "chunked" and (chunked := scenarios.chunked):
        for size in asked.sizes:
            same = _first_cut(chunked, None, ids) == _first_cut(chunked, size, ids)
            yield {"size": size}, 0, None if same else chunked.prefill(ids, size)[:-1]
    elif asked.kind == "prefix" and scenarios.prefix:
        # A repeated prompt goes in without its answer: else nothing would be left to compute.
        earlier = [prompt if prompt == own[0] else prompt + output for prompt, output in beside]
        cached, rows = scenarios.prefix(earlier, ids)
        yield {"cached": cached}, cached, rows[:-1]
    elif asked.kind == "reused" and scenarios.reused:
        for prompt, output in beside:
            yield {}, 0, scenarios.reused(prompt + output, ids)[:-1]
    else:
        raise ValueError(f"no scenario is called {asked.kind!r}")


def _first_cut(chunked: Chunked, asked: int | None, ids: Sequence[int]) -> int:
    return min(chunked.size(asked) or len(ids), len(ids))


def _chats(adapter: Adapter, together: Chats, case: CaseInput) -> Iterator[Trace]:
    """Ask the chat alone and together with others, where a server shows only texts."""
    beside = case.around.beside
    requests = [request(case), *(request(replace(case, messages=m)) for m in beside)]
    (reply,) = together(adapter.chat, requests[:1], 1)
    yield Trace("state", case.id, "alone", text=_said(reply), value={"chat": True})
    for repeat, slots in enumerate(case.around.sizes):
        reply, *others = together(adapter.chat, requests, slots)
        yield Trace(
            "state",
            case.id,
            "concurrent",
            repeat=repeat,
            text=_said(reply),
            value={
                "chat": True,
                "size": slots,
                "row": 0,
                "others": [[[], _said(other)] for other in others],
            },
        )


def _said(reply: Reply) -> str | None:
    """Return the text of an answer, its reasoning and calls included; None where it is empty."""
    message = canonical_message(reply.message or {"content": reply.text})
    calls = [json.dumps(call, ensure_ascii=False) for call in message["tool_calls"]]
    parts = [message["reasoning_content"], message["content"], *calls]
    return "\n".join(filter(None, parts)) or None


def _concurrent(adapter: Adapter, serve: Concurrent, case: CaseInput) -> Iterator[Trace]:
    """Generate the answer alone and among others, whose answers are kept to look for leaks."""
    truth, limit, vocabulary = case.truth, case.max_tokens, vocabulary_of(adapter)
    prompts = [list(truth.prompt), *(list(prompt) for prompt, _ in truth.beside)]
    (output,) = serve(prompts[:1], 1, limit)
    alone = _alone(adapter, case, output)
    alone.text = vocabulary.text_of(output)
    yield alone
    for repeat, slots in enumerate(case.around.sizes):
        output, *others = serve(prompts, slots, limit)
        yield Trace(
            "state",
            case.id,
            "concurrent",
            repeat=repeat,
            prompt_ids=prompts[0],
            output_ids=output,
            text=vocabulary.text_of(output),
            value={
                "size": slots,
                "row": 0,
                "others": [[ids, vocabulary.text_of(ids)] for ids in others],
            },
        )
