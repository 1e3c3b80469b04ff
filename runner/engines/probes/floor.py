"""The forced logits of one benign configuration: its distance from the reference is noise."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from runner.engines.abilities import Adapter, Summaries, Summary, shown_ability
from runner.engines.orders import CaseInput
from runner.engines.probes.batches import batches
from runner.engines.probes.subject import caught, kept_positions
from runner.engines.trace import Trace


def probe_floor(
    adapter: Adapter,
    options: dict[str, Any],
    cases: Sequence[CaseInput],
    on_stage: Callable[[str], None],
) -> Iterator[Trace]:
    """Set ``options`` on the loaded engine and force the truth's ids of every ``logits`` case.

    Raises:
        KeyError: an option needs a new load.
        Unseen: the engine has no ``summaries``, or cannot be changed once it is loaded.
    """
    summaries = shown_ability(adapter.summaries, "summaries")
    shown_ability(adapter.reconfigure, "reconfigure")(options)
    on_stage("logits")
    forced = [case for case in cases if case.stage == "logits"]
    for case in forced:
        yield from caught(_prefill(summaries, case), "logits", case.id, "prefill")
    answered = [case for case in forced if case.truth.output and case.truth.top_ids_decode]
    for batch in batches(answered, lambda case: (len(case.truth.prompt), len(case.truth.output))):
        yield from _decode(summaries, batch)


def _prefill(summaries: Summaries, case: CaseInput) -> Iterator[Trace]:
    truth = case.truth
    made = summaries.prefill(
        [*truth.prompt, *truth.output], np.array(truth.top_ids_prefill, np.int32), truth.positions
    )
    yield _trace(case, "prefill", 0, made)


def _decode(summaries: Summaries, cases: Sequence[CaseInput]) -> Iterator[Trace]:
    made = summaries.decode(
        [(case.truth.prompt, case.truth.output) for case in cases],
        [np.array(case.truth.top_ids_decode, np.int32) for case in cases],
    )
    for case, summary in zip(cases, made, strict=True):
        yield _trace(case, "decode", len(case.truth.prompt) - 1, summary)


def _trace(case: CaseInput, probe: str, start: int, made: Summary) -> Trace:
    return Trace(
        "logits",
        case.id,
        probe,
        prompt_ids=[*case.truth.prompt, *case.truth.output],
        output_ids=list(case.truth.output),
        value={"start": start, "nonfinite": made.nonfinite, **kept_positions(made)},
        arrays=made.arrays,
    )
