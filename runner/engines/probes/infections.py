"""Another engine's outputs in this engine's chain: which of them brings the other's symptom?"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from runner.engines.base import Adapter
from runner.engines.probed import CaseInput, Probed
from runner.engines.probes.chain import answered
from runner.engines.probes.subject import caught, request


def probe_infections(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    """Run the chain of a case once for each of its ``infections`` (probe, and what is put in)."""
    for infection in case["infections"]:
        infected = _infected(adapter, case, infection)
        yield from caught(infected, "chain", case["id"], infection["probe"])


def _infected(adapter: Adapter, case: CaseInput, infection: dict[str, Any]) -> Iterator[Probed]:
    script = infection.get("script")
    # No truth travels here: what is forced is the infection's script, and never one of the case.
    asked = replace(
        request({**case, "truth": {}, "script": None}),
        script=script,
        prompt_text=infection.get("prompt_text"),
        prompt_ids=infection.get("prompt_ids"),
    )
    if script is not None:
        asked = replace(asked, max_tokens=max(1, len(script)))
    probed = answered(adapter, case, infection["probe"], asked)
    probed.value = None if script is None else {"script_ids": script}
    yield probed
