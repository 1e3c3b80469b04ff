"""mlx-lm with more than one request: its batches, its prompt caches, its continuous batching.

These are the library's own parts, which its server is made of: ``BatchGenerator`` with the prompt
and generation batches under it, and ``LRUPromptCache``, which finds and trims a cached prefix.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.engines.abilities import Chunked, Forced, Scenarios
from runner.engines.base import Logits, Unseen
from runner.engines.mlx.loop import Loop, Recorded

_KEY = "the model"
"""Under which name the prompt cache keeps this model's entries: it may hold several models'."""


class MlxScenarios:
    """The scenarios of the ``state`` stage on one loaded model."""

    def __init__(self, loop: Loop, eos_ids: Sequence[int]) -> None:
        self._loop, self._eos = loop, list(eos_ids)

    def scenarios(self) -> Scenarios:
        """Return all of them: chats, too, are asked by ids."""
        return Scenarios(
            batched=self.batch,
            chunked=Chunked(self.chunked),
            prefix=self.warm,
            reused=self.reused,
            concurrent=self.serve,
        )

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        """Let the loop cut the prompt."""
        return self._loop.evaluate(ids, prefill_step_size=size)

    def batch(self, sequences: Sequence[Forced]) -> list[Logits]:
        """Take one prompt batch through to a generation batch, whose rows leave as they end."""
        self._refuse_quantised()
        mx, count = self._loop.mx, len(sequences)
        recorded = Recorded(mx, self._loop.model)
        alive = list(range(count))
        given = [0] * count

        def forced(_logprobs: Any) -> Any:
            coming = []
            for row in alive:
                output = sequences[row][1]
                coming.append(output[given[row]] if given[row] < len(output) else 0)
                given[row] += 1
            return mx.array(coming)

        prompts = self._loop.module.PromptProcessingBatch(
            recorded,
            list(range(count)),
            [self._loop.new_cache() for _ in sequences],
            samplers=[None] * count,
            fallback_sampler=forced,
            logits_processors=[[] for _ in sequences],
            max_tokens=[max(1, len(output)) for _, output in sequences],
            **self._chunks(),
        )
        with mx.stream(self._loop.module.generation_stream):
            going = prompts.generate([list(prompt) for prompt, _ in sequences])
            *chunks, last = recorded.calls
            # Prompts are padded on the right here: what is beyond a row's own ids is dropped.
            found = []
            for row, (prompt, _) in enumerate(sequences):
                own = np.concatenate([call[row] for call in (*chunks, last)])
                found.append([own[: len(prompt) - 1], last[row]])
            while alive:
                recorded.calls.clear()
                answers = going.next()
                for row, logits in zip(alive, recorded.calls[-1], strict=True):
                    found[row].append(logits)
                ended = {answer.uid for answer in answers if answer.finish_reason}
                alive[:] = [row for row in alive if row not in ended]
        return [
            np.concatenate(rows)[: len(prompt) + len(output) - 1]
            for rows, (prompt, output) in zip(found, sequences, strict=True)
        ]

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        """Let the server's prompt cache find, copy and trim what a prompt shares with others."""
        held = self._loop.caches.LRUPromptCache()
        rest: list[int] = []
        rows = np.empty((0, 0), np.float32)
        for prompt in (*earlier, ids):
            cache, rest = held.fetch_nearest_cache(_KEY, list(prompt))
            if cache is None:
                cache = self._loop.new_cache()
            rows = self._loop.evaluate(rest, prompt_cache=cache) if rest else rows[:0]
            held.insert_cache(_KEY, list(prompt), cache)
        return len(ids) - len(rest), rows

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        """Trim a full cache to nothing, and fill it again: its memory is that of before."""
        cache = self._loop.new_cache()
        self._loop.evaluate(earlier, prompt_cache=cache)
        if not self._loop.caches.can_trim_prompt_cache(cache):
            raise Unseen("absent", "mlx_lm cannot trim the cache of this model")
        self._loop.caches.trim_prompt_cache(cache, len(earlier))
        return self._loop.evaluate(ids, prompt_cache=cache)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        self._refuse_quantised()
        generator = self._loop.module.BatchGenerator(
            self._loop.model,
            max_tokens=max_tokens,
            stop_tokens=[[token] for token in self._eos],
            completion_batch_size=slots,
            prefill_batch_size=slots,
            max_kv_size=self._loop.options.get("max_kv_size"),
            **self._chunks(),
        )
        try:
            places = generator.insert([list(prompt) for prompt in prompts])
            answers: dict[int, list[int]] = {place: [] for place in places}
            while responses := generator.next_generated():
                for response in responses:
                    answers[response.uid].append(int(response.token))
        finally:
            generator.close()
        return [answers[place] for place in places]

    def _chunks(self) -> dict[str, Any]:
        size = self._loop.options.get("prefill_step_size")
        return {} if size is None else {"prefill_step_size": size}

    def _refuse_quantised(self) -> None:
        if self._loop.options.get("kv_bits") is not None:
            raise Unseen("absent", "mlx_lm has no batches with a quantised KV cache")
