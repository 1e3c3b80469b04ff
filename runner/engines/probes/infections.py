"""Infections: the candidate's outputs are put into the reference's chain, one stage at a time."""

from collections.abc import Iterator
from dataclasses import replace

from runner.engines.abilities import Adapter
from runner.engines.orders import CaseInput, Infection, Truth
from runner.engines.probes.chain import answered
from runner.engines.probes.subject import caught, request
from runner.engines.trace import Trace


def probe_infections(adapter: Adapter, case: CaseInput) -> Iterator[Trace]:
    """Run the chain of a case once for each of its ``infections`` (probe, and what is put in)."""
    for infection in case.infections:
        infected = _infected(adapter, case, infection)
        yield from caught(infected, "chain", case.id, infection.probe)


def _infected(adapter: Adapter, case: CaseInput, infection: Infection) -> Iterator[Trace]:
    script = infection.script
    # No truth travels here: what is forced is the infection's script, and never one of the case.
    asked = replace(
        request(replace(case, truth=Truth(), script=None)),
        script=script,
        prompt_text=infection.prompt_text,
        prompt_ids=infection.prompt_ids,
    )
    if script is not None:
        asked = replace(asked, max_tokens=max(1, len(script)))
    trace = answered(adapter, case, infection.probe, asked)
    trace.value = None if script is None else {"script_ids": script}
    yield trace
