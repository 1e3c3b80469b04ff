"""mlx-lm's own generation loop, watched: the model's logits are taken where the loop gets them.

The loop cuts the prompt, fills and quantises the cache and asks the sampler for each token. So what
is forced through it was computed as an answer is, not by a loop of ours beside it.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from runner.engines.base import Logits

#: Engine options that the loop takes by the same name.
LOOP_OPTIONS = (
    "prefill_step_size",
    "max_kv_size",
    "kv_bits",
    "kv_group_size",
    "quantized_kv_start",
)


class Recorded:
    """Stands where mlx-lm expects the model, and keeps the logits of every call."""

    def __init__(self, mx: Any, model: Any) -> None:
        self._mx, self._model = mx, model
        self.calls: list[Logits] = []
        """Logits [sequences, ids, V] of each call."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        logits = self._model(*arguments, **named)
        self.calls.append(as_numpy(self._mx, logits))
        return logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class Loop:
    """``generate_step`` on one loaded model, with the options of the cell."""

    def __init__(self, mx: Any, model: Any, options: dict[str, Any]) -> None:
        # mlx_lm.generate is also the name of a function in the package.
        self.module = importlib.import_module("mlx_lm.generate")
        self.caches = importlib.import_module("mlx_lm.models.cache")
        self.mx, self.model = mx, model
        self.options = {name: options[name] for name in LOOP_OPTIONS if name in options}

    def evaluate(self, prompt: Sequence[int], output: Sequence[int] = (), **changed: Any) -> Logits:
        """Return logits at each id of ``prompt``, and at each of ``output`` but its last.

        The loop evaluates the last id of a prompt alone, and those before it in its own chunks.
        """
        recorded = Recorded(self.mx, self.model)
        coming = iter(output)

        def forced(_logprobs: Any) -> Any:
            return self.mx.array([next(coming, 0)])

        self._run(prompt, recorded, forced, max(0, len(output) - 1), changed)
        return np.concatenate([call[0] for call in recorded.calls])

    def sample_first(
        self, prompt: Sequence[int], sampler: Callable[[Any], Any], processors: Sequence[Any]
    ) -> None:
        """Evaluate a prompt and hand ``sampler`` the log-probabilities [1, V] after it, once."""
        self._run(prompt, self.model, sampler, 0, {"logits_processors": list(processors)})

    def new_cache(self) -> list[Any]:
        """Return an empty cache, of the kind that the loop would make.

        Most models make their own and then know no ``max_kv_size``: mlx-lm ignores it for them.
        """
        made: list[Any] = self.caches.make_prompt_cache(
            self.model, max_kv_size=self.options.get("max_kv_size")
        )
        return made

    def _run(
        self,
        prompt: Sequence[int],
        model: Any,
        sampler: Callable[[Any], Any],
        steps: int,
        changed: dict[str, Any],
    ) -> None:
        ids = self.mx.array(list(prompt))
        options = {**self.options, **changed, "max_tokens": steps, "sampler": sampler}
        for _ in self.module.generate_step(ids, model, **options):
            pass


class LoopDistribution:
    """Logits of forced ids, as the loop gets them."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        if not cold:
            return self._loop.evaluate(ids)
        mx = self._loop.mx
        logits: Logits = as_numpy(mx, self._loop.model(mx.array([list(ids)])))[0]
        return logits

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self._loop.evaluate(prompt, output)[len(prompt) - 1 :]


def as_numpy(mx: Any, values: Any) -> Any:
    """Return an array of any float type as float32; numpy has no bfloat16."""
    return np.array(values.astype(mx.float32))
