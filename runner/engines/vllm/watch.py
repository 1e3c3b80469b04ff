"""Hooks in vLLM: a watch on the logits that it computes, and a script that it must produce.

The watch stands behind the model's own ``compute_logits``, in the engine's own step: so every row
is one that the engine computed for itself, whatever else it had in its batch, and for a vocabulary
of any size. vLLM computes rows of two kinds, one for each request that samples, and one for each
position of a prompt whose log-probabilities are asked for.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from runner.engines.base import Logits

#: Under this name a request carries its script.
SCRIPT = "forced_ids"
Row = npt.NDArray[np.float32]


class Watch:
    """Keeps logits by request and by position, while it is open."""

    def __init__(self, torch: Any, runner: Any) -> None:
        """``runner`` is vLLM's model runner; its model is loaded."""
        self._torch, self._runner = torch, runner
        self._open = False
        self._prompts_of: Any = None
        """Hidden states of the whole step, while log-probabilities of prompts are computed."""
        self._seen: dict[str, dict[int, Row]] = {}
        model = runner.get_model()
        compute, prompts = model.compute_logits, runner._get_prompt_logprobs_dict

        def computed(hidden: Any, *rest: Any, **named: Any) -> Any:
            logits = compute(hidden, *rest, **named)
            if self._open and logits is not None:
                self._note(hidden, logits)
            return logits

        def of_prompts(hidden: Any, scheduled: Any) -> Any:
            self._prompts_of = hidden
            try:
                return prompts(hidden, scheduled)
            finally:
                self._prompts_of = None

        model.compute_logits = computed
        runner._get_prompt_logprobs_dict = of_prompts

    def __enter__(self) -> "Watch":
        self._seen, self._open = {}, True
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False

    def rows(self, request: str, first: int, end: int) -> Logits:
        """Return logits [end - first, V] at these positions of a request.

        Raises:
            RuntimeError: vLLM computed no logits at one of them.
        """
        seen = self._seen.get(request, {})
        missing = [position for position in range(first, end) if position not in seen]
        if missing:
            raise RuntimeError(
                f"vLLM computed no logits at {len(missing)} of {end - first} positions, "
                f"the first of them {missing[0]}"
            )
        return np.stack([seen[position] for position in range(first, end)])

    def _note(self, hidden: Any, logits: Any) -> None:
        # Copied at once: the sampler changes them in their place.
        found = np.array(logits.to(self._torch.float32).cpu().numpy(), np.float32)
        for row, (request, position) in zip(found, self._owners(hidden, len(found)), strict=True):
            self._seen.setdefault(request, {})[position] = row

    def _owners(self, hidden: Any, count: int) -> list[tuple[str, int]]:
        """Return the request and the position of each of ``count`` rows."""
        runner = self._runner
        names = runner.input_batch.req_ids
        starts = runner.query_start_loc.np[: len(names) + 1].tolist()
        computed = [runner.requests[name].num_computed_tokens for name in names]
        if self._prompts_of is None:
            ends = zip(names, computed, starts, starts[1:], strict=False)
            owners = [(name, past + end - start - 1) for name, past, start, end in ends]
        else:
            # A slice of the step's hidden states: where it begins says whose they are.
            offset = hidden.storage_offset() - self._prompts_of.storage_offset()
            place = starts.index(offset // hidden.stride(0))
            owners = [(names[place], computed[place] + i) for i in range(count)]
        if len(owners) != count:
            raise RuntimeError(f"vLLM computed {count} rows of logits for {len(owners)} requests")
        return owners


def forcing(processors: Any) -> type:
    """Return a logits processor under which a request's script comes out, id by id.

    ``processors`` is vLLM's module of them. Once a script is used up the engine goes on by itself.
    """

    class Forced(processors.AdapterLogitsProcessor):  # type: ignore[misc]  # known only now
        def is_argmax_invariant(self) -> bool:
            return False

        def new_req_logits_processor(self, params: Any) -> Any:
            script = (params.extra_args or {}).get(SCRIPT)
            if script is None:
                return None

            def force(output: list[int], logits: Any) -> Any:
                if len(output) < len(script):
                    logits.fill_(-1e30)
                    logits[script[len(output)]] = 0.0
                return logits

            return force

    return Forced
