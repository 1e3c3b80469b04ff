"""vLLM with token ids: what it computes for one request or several, among what, and after what.

Every request goes through ``LLM.enqueue`` and the engine's own scheduler. Ids that shall come out
are forced by a logits processor; logits are those that the watch saw. What vLLM fixes when it
loads (the tokens of a step, the requests at a time) is lowered on its scheduler for a scenario.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from runner.engines.abilities import Chunked, Forced, Scenarios
from runner.engines.base import Logits, Unseen
from runner.engines.vllm.watch import SCRIPT, Watch

#: How far a log-probability that vLLM returns may lie from that of the row at its position.
_SAME = 1e-3


class VllmScenarios:
    """Requests by ids to one ``vllm.LLM``: forced ids, and the scenarios of ``state``."""

    def __init__(self, lib: Any, llm: Any, watch: Watch | None) -> None:
        self._lib, self._llm, self._watch = lib, llm, watch
        self._scheduler = llm.llm_engine.engine_core.engine_core.scheduler

    def scenarios(self) -> Scenarios:
        """Return all of them: chats, too, are asked by ids."""
        return Scenarios(
            batched=self.batch,
            chunked=Chunked(self.chunked, self.chunk_size),
            prefix=self.warm,
            reused=self.reused,
            concurrent=self.serve,
        )

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        # Log-probabilities of a prompt never come from the cache; cold means that it is empty, too.
        if cold:
            self.forget()
        return self.batch([(ids, ())])[0]

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        watch = self._watched()
        params = self._params(output, logprobs=0, skip_reading_prefix_cache=True)
        with watch:
            ((name, answer),) = self.run([prompt], [params])
            rows = watch.rows(name, len(prompt) - 1, len(prompt) - 1 + len(output))
        choice = answer.outputs[0]
        if list(choice.token_ids) != list(output):
            raise RuntimeError(f"vLLM was to decode {list(output)} and did {choice.token_ids}")
        stated = [step[token].logprob for step, token in zip(choice.logprobs, output, strict=True)]
        _aligned(rows, output, stated)
        return rows

    def batch(self, sequences: Sequence[Forced]) -> list[Logits]:
        """Let one batch of requests go through the engine; see ``Batched``."""
        watch = self._watched()
        params = [self._params(output, prompt_logprobs=0) for _, output in sequences]
        found = []
        with watch:
            served = self.run([prompt for prompt, _ in sequences], params)
            for (name, answer), (prompt, output) in zip(served, sequences, strict=True):
                # The request of a prompt alone samples one id, which nothing needs.
                rows = watch.rows(name, 0, len(prompt) + max(0, len(output) - 1))
                _aligned(rows, prompt[1:], _prompt_logprobs(answer, prompt, 0))
                found.append(rows)
        return found

    def chunk_size(self, asked: int | None) -> int:
        largest = int(self._scheduler.max_num_scheduled_tokens)
        return largest if asked is None else min(asked, largest)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        """Let the scheduler cut the prompt, with a smaller budget of tokens for each step."""
        if not self._scheduler.scheduler_config.enable_chunked_prefill:
            raise Unseen("absent", "chunked prefill is off")
        with self._limited("max_num_scheduled_tokens", self.chunk_size(size)):
            return self.prefill(ids)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        """Let the prefix cache keep whole blocks of earlier prompts; it begins empty."""
        if not self._llm.llm_engine.vllm_config.cache_config.enable_prefix_caching:
            raise Unseen("absent", "prefix caching is off")
        watch = self._watched()
        self.forget()
        for prompt in earlier:
            self.run([prompt], [self._params(())])
        params = self._params((), prompt_logprobs=0, skip_reading_prefix_cache=False)
        with watch:
            ((name, answer),) = self.run([ids], [params])
            cached = int(answer.num_cached_tokens or 0)
            rows = watch.rows(name, cached, len(ids))
        _aligned(rows, ids[cached + 1 :], _prompt_logprobs(answer, ids, cached))
        return cached, rows

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        """Serve ``earlier`` to its end, then ``ids`` in the memory that it leaves.

        vLLM takes the blocks that were free for longest, so all others are held meanwhile.
        """
        self.forget()
        manager = self._scheduler.kv_cache_manager
        pool, size = manager.block_pool, self._scheduler.block_size
        needed = -(-(max(len(earlier), len(ids)) + 1) // size)
        held = pool.get_new_blocks(pool.get_num_free_blocks() - needed)
        try:
            self.run([earlier], [self._params(())])
            return self.prefill(ids)
        finally:
            pool.free_blocks(held)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        """Queue all prompts at once; the scheduler runs ``slots`` of them at a time."""
        params = [
            self._lib.SamplingParams(temperature=0.0, max_tokens=max_tokens, detokenize=False)
            for _ in prompts
        ]
        most = int(self._scheduler.max_num_active_reqs)
        with self._limited("max_num_active_reqs", min(slots, most)):
            return [list(answer.outputs[0].token_ids) for _, answer in self.run(prompts, params)]

    def forget(self) -> None:
        """Empty the prefix cache."""
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache")

    def run(self, prompts: Sequence[Sequence[int]], params: Sequence[Any]) -> list[tuple[str, Any]]:
        """Serve prompts together; return the engine's name for each, and its finished answer."""
        asked = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        names = self._llm.enqueue(asked, list(params), use_tqdm=False)
        try:
            # Sorted by the order in which they were queued.
            answers = self._llm.wait_for_completion(use_tqdm=False)
        except BaseException:
            self._llm.llm_engine.abort_request(names, internal=True)
            raise
        return list(zip(names, answers, strict=True))

    def _params(self, script: Sequence[int], **more: Any) -> Any:
        """Return what makes a request produce ``script``, or one id of its own, and no text."""
        return self._lib.SamplingParams(
            temperature=0.0,
            max_tokens=max(1, len(script)),
            ignore_eos=True,
            detokenize=False,
            extra_args={SCRIPT: [int(token) for token in script]} if script else None,
            **more,
        )

    def _watched(self) -> Watch:
        if self._watch is None:
            raise Unseen("hidden", "a timed engine is not watched")
        return self._watch

    @contextmanager
    def _limited(self, name: str, value: int) -> Iterator[None]:
        """Lower a limit of the scheduler, which looks at it in every step."""
        before = getattr(self._scheduler, name)
        setattr(self._scheduler, name, value)
        try:
            yield
        finally:
            setattr(self._scheduler, name, before)


def _prompt_logprobs(answer: Any, ids: Sequence[int], first: int) -> list[float]:
    """Return what vLLM says of ids ``first + 1`` to the last of a prompt."""
    stated = answer.prompt_logprobs
    return [stated[place][ids[place]].logprob for place in range(first + 1, len(ids))]


def _aligned(rows: Logits, ids: Sequence[int], stated: Sequence[float]) -> None:
    """Refuse rows that do not give the ids after them the log-probabilities that vLLM returned.

    ``ids`` and ``stated`` may be fewer than ``rows``.
    """
    wide = rows[: len(ids)].astype(np.float64)
    highest = wide.max(axis=1, initial=-np.inf, keepdims=True)
    sums = np.log(np.exp(wide - highest).sum(axis=1)) + highest[:, 0]
    own = wide[np.arange(len(ids)), np.asarray(ids, np.int64)] - sums
    apart = np.abs(own - np.asarray(stated, np.float64))
    # What is no number is a defect of its own, which the probes count.
    wrong = np.flatnonzero(apart > _SAME)
    if len(wrong):
        raise RuntimeError(
            f"the logits seen at position {wrong[0]} are not those of vLLM's own log-probability: "
            f"{own[wrong[0]]:.6f} and {stated[wrong[0]]:.6f}"
        )
