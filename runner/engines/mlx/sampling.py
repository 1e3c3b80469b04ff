"""mlx-lm's samplers and logits processors, with what is asked and nothing more.

What nobody asks for is left to the library, whose own temperature is 0: a request that names none
gets the argmax, whatever else it asks for.
"""

import importlib
from collections.abc import Sequence
from typing import Any

from runner.engines.mlx.loop import Loop

_SAMPLER = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}
_PROCESSORS = {
    "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
}
#: Sampling parameters, and what mlx-lm calls them.
NAMES = _SAMPLER | _PROCESSORS
_VALUES = 2**24
"""Log-probabilities drawn from in one call: a block of 64 MiB in float32."""


class MlxSampler:
    """The samplers of mlx-lm over one loaded model."""

    parameters = tuple(NAMES)

    def __init__(self, loop: Loop, tokenizer: Any) -> None:
        self._loop, self._tokenizer = loop, tokenizer

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        """Draw ``n`` tokens from the log-probabilities after one evaluation of the prompt.

        The library samples whole batches with one call of its sampler, row by row independently.
        """
        mx, (sampler, processors) = self._loop.mx, _made(self._loop, asked)
        drawn: list[int] = []

        def many(logprobs: Any) -> Any:
            block = max(1, _VALUES // logprobs.shape[-1])
            while len(drawn) < n:
                rows = mx.repeat(logprobs, min(block, n - len(drawn)), axis=0)
                drawn.extend(sampler(rows).tolist())
            return mx.array(drawn[:1])

        mx.random.seed(seed)
        self._loop.sample_first(prompt, many, processors)
        return drawn

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        """Return the ids of one answer of ``stream_generate``, an EOS included."""
        sampler, processors = _made(self._loop, asked)
        if seed is not None:
            self._loop.mx.random.seed(seed)
        responses = self._loop.module.stream_generate(
            self._loop.model,
            self._tokenizer,
            list(prompt),
            max_tokens=max_tokens,
            sampler=sampler,
            logits_processors=processors,
            **self._loop.options,
        )
        return [int(response.token) for response in responses]


def _made(loop: Loop, asked: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the sampler and the logits processors that the library makes of a request."""
    library = importlib.import_module("mlx_lm.sample_utils")
    named = dict(asked)
    if bias := named.get("logit_bias"):
        named["logit_bias"] = {int(token): float(value) for token, value in bias.items()}
    # To cut nothing is spelt 0 here: for a top_k of the whole vocabulary the sampler raises.
    if named.get("top_k", 0) >= getattr(loop.model.args, "vocab_size", float("inf")):
        named["top_k"] = 0
    sampler = library.make_sampler(**_renamed(_SAMPLER, named))
    return sampler, library.make_logits_processors(**_renamed(_PROCESSORS, named))


def _renamed(names: dict[str, str], asked: dict[str, Any]) -> dict[str, Any]:
    return {names[name]: value for name, value in asked.items() if name in names}
