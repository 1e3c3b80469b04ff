"""Caches, batches and slots that mix up what belongs to different tokens or requests.

An engine's cache cannot be reached from here, so each fault computes what such a cache would
make the engine see: the same sequence with a token missing, stale or foreign.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from runner.engines.abilities import (
    Adapter,
    Chunked,
    Distribution,
    Forced,
    distribution_of,
    shown_ability,
)
from runner.engines.base import Logits
from runner.engines.faults.adapter.base import AdapterMutation
from runner.engines.faults.adapter.harmed_logits import noise


class ScenarioMutation(AdapterMutation):
    """One scenario is harmed."""

    @property
    def distribution(self) -> Distribution:
        """The engine's own, unharmed."""
        return distribution_of(self.inner)


class BatchMutation(ScenarioMutation):
    """Batches are harmed."""

    needs = ("distribution", "batched")

    @abstractmethod
    def harmed(self, found: list[Logits], sequences: Sequence[Forced]) -> list[Logits]:
        """Return the rows of each sequence instead of those that the engine computed."""

    def applied(self) -> Adapter:
        scenarios = self.inner.scenarios
        batched = shown_ability(scenarios.batched, "batched")

        def harmed(sequences: Sequence[Forced]) -> list[Logits]:
            return self.harmed([np.array(rows) for rows in batched(sequences)], sequences)

        return replace(self.inner, scenarios=replace(scenarios, batched=harmed))


class ChunkMutation(ScenarioMutation):
    """Prefills in chunks are harmed."""

    needs = ("distribution", "chunked")

    @abstractmethod
    def harmed(self, rows: Logits, ids: Sequence[int], size: int) -> Logits:
        """Return rows [len(ids), V] instead of those that the engine computed."""

    def applied(self) -> Adapter:
        scenarios = self.inner.scenarios
        chunked = shown_ability(scenarios.chunked, "chunked")

        def harmed(ids: Sequence[int], size: int) -> Logits:
            return self.harmed(np.array(chunked.prefill(ids, size)), ids, size)

        own = Chunked(harmed, chunked.size)
        return replace(self.inner, scenarios=replace(scenarios, chunked=own))


class PrefixMutation(ScenarioMutation):
    """What follows a cached prefix is harmed."""

    needs = ("distribution", "prefix")

    @abstractmethod
    def harmed(
        self, start: int, rows: Logits, earlier: Sequence[Sequence[int]], ids: Sequence[int]
    ) -> tuple[int, Logits]:
        """Return the first position and its rows instead of those that the engine computed."""

    def applied(self) -> Adapter:
        scenarios = self.inner.scenarios
        prefix = shown_ability(scenarios.prefix, "prefix")

        def harmed(earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
            return self.harmed(*prefix(earlier, ids), earlier, ids)

        return replace(self.inner, scenarios=replace(scenarios, prefix=harmed))


class ConcurrentMutation(AdapterMutation):
    """The answers of requests that run together are harmed."""

    needs = ("concurrent",)

    @abstractmethod
    def harmed(self, answers: list[list[int]], together: int) -> list[list[int]]:
        """Return other answers; so many of them (2 or more) were given together."""

    def applied(self) -> Adapter:
        scenarios = self.inner.scenarios
        concurrent = shown_ability(scenarios.concurrent, "concurrent")

        def harmed(
            prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
        ) -> list[list[int]]:
            answers = concurrent(prompts, slots, max_tokens)
            together = min(slots, len(prompts))
            return answers if together < 2 else self.harmed(answers, together)

        return replace(self.inner, scenarios=replace(scenarios, concurrent=harmed))


class RowsMixed(BatchMutation):
    """The steps of neighbouring rows of a batch are exchanged."""

    def harmed(self, found: list[Logits], sequences: Sequence[Forced]) -> list[Logits]:
        starts = [len(prompt) for prompt, _ in sequences]
        for a in range(0, len(found) - 1, 2):
            b = a + 1
            n = max(0, min(len(found[a]) - starts[a], len(found[b]) - starts[b]))
            first, second = slice(starts[a], starts[a] + n), slice(starts[b], starts[b] + n)
            found[a][first], found[b][second] = found[b][second].copy(), found[a][first].copy()
        return found


class RowPosition(BatchMutation):
    """Rows beyond the first decode a position too early: as if a token were missing.

    It is the last but one, so that its distance to all before it is wrong.
    """

    def harmed(self, found: list[Logits], sequences: Sequence[Forced]) -> list[Logits]:
        for rows, (prompt, output) in list(zip(found, sequences, strict=True))[1:]:
            if len(output) > 1 and len(prompt) > 2:
                shorter = [*prompt[:-2], prompt[-1]]
                rows[len(prompt) :] = self.distribution.decode(shorter, output)[1:]
        return found


class BatchNoise(BatchMutation):
    """The kernel for some sizes of a batch is wrong."""

    strength = 0.1

    def harmed(self, found: list[Logits], sequences: Sequence[Forced]) -> list[Logits]:
        first, last = self.options.first or 3, self.options.last or 8
        if not first <= len(sequences) <= last:
            return found
        return [
            noise(rows, np.arange(len(rows), dtype=np.int64), self.by, self.options.seed)
            for rows in found
        ]


class ChunkOffByOne(ChunkMutation):
    """Each chunk of a prompt misses the last token of the one before it."""

    def harmed(self, rows: Logits, ids: Sequence[int], size: int) -> Logits:
        for number, start in enumerate(range(size, len(ids), size), 1):
            if self.harms(number):
                seen = [*ids[: start - 1], *ids[start : start + size]]
                rows[start : start + size] = self.distribution.prefill(seen)[start - 1 :]
        return rows

    def harms(self, _number: int) -> bool:
        """Whether the chunk of this number (from 0) is computed wrongly."""
        return True


class ChunkEdge(ChunkOffByOne):
    """As above, in one chunk only."""

    def harms(self, number: int) -> bool:
        return number == (1 if self.options.first is None else self.options.first)


class StaleReuse(ScenarioMutation):
    """A slot keeps one token of the request that was in it before."""

    needs = ("distribution", "reused")

    def applied(self) -> Adapter:
        scenarios = self.inner.scenarios
        reused = shown_ability(scenarios.reused, "reused")

        def harmed(earlier: Sequence[int], ids: Sequence[int]) -> Logits:
            return self._harmed(np.array(reused(earlier, ids)), earlier, ids)

        return replace(self.inner, scenarios=replace(scenarios, reused=harmed))

    def _harmed(self, rows: Logits, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        place = min(len(earlier), len(ids)) // 2
        seen = [*ids[:place], earlier[place], *ids[place + 1 :]]
        if list(seen) == list(ids):
            place = next(i for i in range(len(ids)) if earlier[i : i + 1] != ids[i : i + 1])
            seen = [*ids[:place], *earlier[place : place + 1], *ids[place + 1 :]]
        if len(seen) == len(ids):
            rows[place + 1 :] = self.distribution.prefill(seen)[place + 1 :]
        return rows


class CachedTokenDropped(PrefixMutation):
    """On a cache hit the last token of the cached prefix is lost."""

    def harmed(
        self, start: int, rows: Logits, earlier: Sequence[Sequence[int]], ids: Sequence[int]
    ) -> tuple[int, Logits]:
        if start < 1:
            return start, rows
        return start, self.distribution.prefill([*ids[: start - 1], *ids[start:]])[start - 1 :]


class PrefixCollision(PrefixMutation):
    """Two prompts are taken for one, so that the cache of the other is reused."""

    def harmed(
        self, start: int, rows: Logits, earlier: Sequence[Sequence[int]], ids: Sequence[int]
    ) -> tuple[int, Logits]:
        for other in earlier:
            shared = min(len(other), len(ids) // 2)
            if list(other[:shared]) != list(ids[:shared]):
                mixed = [*other[:shared], *ids[shared:]]
                return shared, self.distribution.prefill(mixed)[shared:]
        return start, rows


class WindowEvicted(PrefixMutation):
    """Of a cached prefix only the last tokens (``first``) are still there."""

    def harmed(
        self, start: int, rows: Logits, earlier: Sequence[Sequence[int]], ids: Sequence[int]
    ) -> tuple[int, Logits]:
        window = 64 if self.options.first is None else self.options.first
        if start <= window:
            return start, rows
        return start, self.distribution.prefill(ids[start - window :])[window:]


class ForeignAnswer(ConcurrentMutation):
    """Of two requests that run together, the ends of the answers are exchanged."""

    def harmed(self, answers: list[list[int]], together: int) -> list[list[int]]:
        a, b = answers[0], answers[1]
        first = [*a[: len(a) // 2], *b[len(b) // 2 :]]
        second = [*b[: len(b) // 2], *a[len(a) // 2 :]]
        return [first, second, *answers[2:]]


class AnswerAliased(ConcurrentMutation):
    """Requests that run together share an id, and all get the last one's answer."""

    def harmed(self, answers: list[list[int]], together: int) -> list[list[int]]:
        return [answers[together - 1]] * together + answers[together:]


STATE: dict[str, type[AdapterMutation]] = {
    "rows-mixed": RowsMixed,
    "row-position": RowPosition,
    "batch-noise": BatchNoise,
    "chunk-off-by-one": ChunkOffByOne,
    "chunk-edge": ChunkEdge,
    "stale-reuse": StaleReuse,
    "cached-token-dropped": CachedTokenDropped,
    "prefix-collision": PrefixCollision,
    "window-evicted": WindowEvicted,
    "foreign-answer": ForeignAnswer,
    "answer-aliased": AnswerAliased,
}
