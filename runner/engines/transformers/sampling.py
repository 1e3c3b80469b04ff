"""The sampler of ``generate``, with what is asked and nothing more.

What nobody asks for is left to the model's generation config and then to the library, whose own
default is ``top_k`` 50: a request that names no limit loses everything below that.
"""

import copy
from collections.abc import Sequence
from typing import Any

#: Sampling parameters, and what ``generate`` calls them. It has no presence or frequency penalty.
NAMES = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "logit_bias": "sequence_bias",
}
_ROWS = 128
"""Answers drawn in one call: enough to be fast, few enough for the copies of the cache."""


class TorchSampler:
    """The sampler of one model."""

    parameters = tuple(NAMES)

    def __init__(self, torch: Any, model: Any) -> None:
        self._torch, self._model = torch, model

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        """Draw ``n`` first tokens in batches; the prompt without its last id is computed once."""
        cache = None
        if len(prompt) > 1:
            ids = self._torch.tensor([list(prompt[:-1])], device=self._model.device)
            with self._torch.no_grad():
                cache = self._model(ids, use_cache=True).past_key_values
        self._torch.manual_seed(seed)
        drawn: list[int] = []
        while len(drawn) < n:
            rows = min(_ROWS, n - len(drawn))
            prompts = self._torch.tensor([list(prompt)] * rows, device=self._model.device)
            arguments = _arguments(asked)
            if cache is not None:
                arguments["past_key_values"] = copy.deepcopy(cache)
                arguments["past_key_values"].batch_repeat_interleave(rows)
            drawn += self._answers(prompts, arguments, 1)[:, 0].tolist()
        return drawn

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        """Return the ids of one answer, an EOS included."""
        if seed is not None:
            self._torch.manual_seed(seed)
        prompts = self._torch.tensor([list(prompt)], device=self._model.device)
        found: list[int] = self._answers(prompts, _arguments(asked), max_tokens)[0].tolist()
        return found

    def _answers(self, prompts: Any, arguments: dict[str, Any], max_tokens: int) -> Any:
        with self._torch.no_grad():
            out = self._model.generate(
                prompts,
                attention_mask=self._torch.ones_like(prompts),
                max_new_tokens=max_tokens,
                **arguments,
            )
        return out[:, prompts.shape[1] :]


def _arguments(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what ``generate`` is called with; without ``do_sample`` it is greedy."""
    named = {NAMES[name]: value for name, value in asked.items()}
    if bias := named.pop("sequence_bias", None):
        named["sequence_bias"] = [[[int(token)], float(value)] for token, value in bias.items()]
    if named.get("temperature") == 0:
        del named["temperature"]
        return {"do_sample": False, **named}
    return {"do_sample": True, **named}
