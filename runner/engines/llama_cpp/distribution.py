"""Logits of forced ids: one pass of ``Llama.eval``, or one for each id."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.engines.base import Logits


class LlamaDistribution:
    """The rows of ``Llama.scores``."""

    def __init__(self, llama: Any) -> None:
        self._llama = llama

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        if cold:
            self._llama._ctx.kv_cache_clear()
        self._llama.reset()
        self._llama.eval(list(ids))
        return np.array(self._llama.scores[: len(ids)], np.float32)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        self._llama.reset()
        self._llama.eval(list(prompt))
        for token in output[:-1]:
            self._llama.eval([token])
        first = len(prompt) - 1
        return np.array(self._llama.scores[first : first + len(output)], np.float32)
