"""Another engine's outputs in this engine's chain: which of them brings the other's symptom?"""

from collections.abc import Iterator
from typing import Any

from runner.child.adapters.base import Adapter, Request
from runner.child.failures import is_out_of_memory, told
from runner.child.messages import canonical_message
from runner.child.probed import CaseInput, Probed


def probe_infections(adapter: Adapter, case: CaseInput) -> Iterator[Probed]:
    """Run the chain of a case once for each of its ``infections`` (probe, and what is put in)."""
    for infection in case["infections"]:
        try:
            yield _infected(adapter, case, infection)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            yield Probed("chain", case["id"], infection["probe"], error=told(error))


def _infected(adapter: Adapter, case: CaseInput, infection: dict[str, Any]) -> Probed:
    script = infection.get("script")
    reply = adapter.chat(
        Request(
            messages=case["messages"],
            tools=case.get("tools"),
            template_options=case.get("template_options") or {},
            max_tokens=case["max_tokens"] if script is None else max(1, len(script)),
            stop=case.get("stop") or (),
            script=script,
            prompt_text=infection.get("prompt_text"),
            prompt_ids=infection.get("prompt_ids"),
        )
    )
    return Probed(
        "chain",
        case["id"],
        infection["probe"],
        prompt_ids=reply.prompt_ids,
        output_ids=reply.output_ids,
        text=reply.text,
        message=None if reply.message is None else canonical_message(reply.message),
        finish_reason=reply.finish_reason,
        value=None if script is None else {"script_ids": script},
    )
