"""Loaded by a managed vLLM server, so that a request can carry the ids that must come out.

It stands alone in its folder, which the server finds on its path, and imports vLLM only.
"""

from collections.abc import Callable
from typing import Any

from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

#: Under this name a request carries its ids, in ``vllm_xargs``.
SCRIPT = "forced_ids"
_NEVER = -1e30

Force = Callable[[list[int], Any], Any]


class Forced(AdapterLogitsProcessor):  # type: ignore[misc]  # vLLM is not there for mypy
    """Lets a request's own ids come out one by one; afterwards the model goes on by itself."""

    def is_argmax_invariant(self) -> bool:
        return False

    def new_req_logits_processor(self, params: Any) -> Force | None:
        script = (params.extra_args or {}).get(SCRIPT)
        if script is None:
            return None

        def force(output: list[int], logits: Any) -> Any:
            if len(output) < len(script):
                logits.fill_(_NEVER)
                logits[script[len(output)]] = 0.0
            return logits

        return force
