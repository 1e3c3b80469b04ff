"""vLLM's sampler, through ``LLM.enqueue``, with what is asked and nothing more.

``SamplingParams`` that name nothing leave the distribution alone. The defaults of a model's
generation config reach only requests that come without any ``SamplingParams``.
"""

import random
from collections.abc import Sequence
from typing import Any

from runner.engines.vllm.state import VllmScenarios

#: Sampling parameters, and what vLLM calls them.
NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
}


class VllmSampler:
    """The sampler of one ``vllm.LLM``."""

    parameters = tuple(NAMES)

    def __init__(self, lib: Any, requests: VllmScenarios) -> None:
        self._lib, self._requests = lib, requests

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        """Draw ``n`` first tokens as the answers of a few requests; vLLM seeds each answer apart.

        As many at a time as fit whole into one step of the scheduler: on a CPU vLLM 0.32 cannot
        draw with a seed after a prompt that was cut ("CPU Generator does not use offset").
        """
        seeds, drawn = random.Random(seed), list[int]()
        most = max(1, self._requests.chunk_size(None) // len(prompt))
        while len(drawn) < n:
            params = self._lib.SamplingParams(
                n=min(most, n - len(drawn)),
                seed=seeds.getrandbits(31),
                max_tokens=1,
                detokenize=False,
                **_named(asked),
            )
            ((_, answer),) = self._requests.run([prompt], [params])
            drawn += [int(choice.token_ids[0]) for choice in answer.outputs]
        return drawn

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        """Return the ids of one answer, an EOS included."""
        params = self._lib.SamplingParams(
            seed=seed, max_tokens=max_tokens, detokenize=False, **_named(asked)
        )
        ((_, answer),) = self._requests.run([prompt], [params])
        return [int(token) for token in answer.outputs[0].token_ids]


def _named(asked: dict[str, Any]) -> dict[str, Any]:
    named = {NAMES[name]: value for name, value in asked.items()}
    if bias := named.get("logit_bias"):
        named["logit_bias"] = {int(token): float(value) for token, value in bias.items()}
    return named
