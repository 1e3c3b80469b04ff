"""Caches, batches and slots that mix up what belongs to different tokens or requests.

An engine's cache cannot be reached from here, so each mutation computes what such a cache would
make the engine see: the same sequence with a token missing, stale or foreign.
"""

from collections.abc import Sequence

import numpy as np

from runner.engines.base import Logits
from runner.engines.faults.adapter.base import Mutated
from runner.engines.faults.adapter.logits import noise

Sequences = Sequence[tuple[Sequence[int], Sequence[int]]]


class RowsMixed(Mutated):
    """The steps of neighbouring rows of a batch are exchanged."""

    def batch(self, sequences: Sequences) -> list[Logits]:
        found = [np.array(rows) for rows in self.inner.batch(sequences)]
        starts = [len(prompt) for prompt, _ in sequences]
        for a in range(0, len(found) - 1, 2):
            b = a + 1
            n = max(0, min(len(found[a]) - starts[a], len(found[b]) - starts[b]))
            first, second = slice(starts[a], starts[a] + n), slice(starts[b], starts[b] + n)
            found[a][first], found[b][second] = found[b][second].copy(), found[a][first].copy()
        return found


class RowPosition(Mutated):
    """Rows beyond the first decode a position too early: as if a token were missing.

    It is the last but one, so that its distance to all before it is wrong.
    """

    def batch(self, sequences: Sequences) -> list[Logits]:
        found = [np.array(rows) for rows in self.inner.batch(sequences)]
        for rows, (prompt, output) in list(zip(found, sequences, strict=True))[1:]:
            if len(output) > 1 and len(prompt) > 2:
                shorter = [*prompt[:-2], prompt[-1]]
                rows[len(prompt) :] = self.inner.decode(shorter, output)[1:]
        return found


class BatchNoise(Mutated):
    """The kernel for some sizes of a batch is wrong."""

    strength = 0.1

    def batch(self, sequences: Sequences) -> list[Logits]:
        found = self.inner.batch(sequences)
        first, last = self.spec.first or 3, self.spec.last or 8
        if not first <= len(sequences) <= last:
            return found
        return [
            noise(rows, np.arange(len(rows), dtype=np.int64), self.by, self.spec.seed)
            for rows in found
        ]


class ChunkOffByOne(Mutated):
    """Each chunk of a prompt misses the last token of the one before it."""

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        rows = np.array(self.inner.chunked(ids, size))
        for number, start in enumerate(range(size, len(ids), size), 1):
            if self.harms(number):
                seen = [*ids[: start - 1], *ids[start : start + size]]
                rows[start : start + size] = self.inner.prefill(seen)[start - 1 :]
        return rows

    def harms(self, _number: int) -> bool:
        """Whether the chunk of this number (from 0) is computed wrongly."""
        return True


class ChunkEdge(ChunkOffByOne):
    """As above, in one chunk only."""

    def harms(self, number: int) -> bool:
        return number == (1 if self.spec.first is None else self.spec.first)


class StaleReuse(Mutated):
    """A slot keeps one token of the request that was in it before."""

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        rows = np.array(self.inner.reused(earlier, ids))
        place = min(len(earlier), len(ids)) // 2
        seen = [*ids[:place], earlier[place], *ids[place + 1 :]]
        if list(seen) == list(ids):
            place = next(i for i in range(len(ids)) if earlier[i : i + 1] != ids[i : i + 1])
            seen = [*ids[:place], *earlier[place : place + 1], *ids[place + 1 :]]
        if len(seen) == len(ids):
            rows[place + 1 :] = self.inner.prefill(seen)[place + 1 :]
        return rows


class CachedTokenDropped(Mutated):
    """On a cache hit the last token of the cached prefix is lost."""

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        start, rows = self.inner.warm(earlier, ids)
        if start < 1:
            return start, rows
        return start, self.inner.prefill([*ids[: start - 1], *ids[start:]])[start - 1 :]


class PrefixCollision(Mutated):
    """Two prompts are taken for one, so that the cache of the other is reused."""

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        for other in earlier:
            start = min(len(other), len(ids) // 2)
            if list(other[:start]) != list(ids[:start]):
                return start, self.inner.prefill([*other[:start], *ids[start:]])[start:]
        return self.inner.warm(earlier, ids)


class WindowEvicted(Mutated):
    """Of a cached prefix only the last tokens (``first``) are still there."""

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        start, rows = self.inner.warm(earlier, ids)
        window = 64 if self.spec.first is None else self.spec.first
        if start <= window:
            return start, rows
        return start, self.inner.prefill(ids[start - window :])[window:]


class ForeignAnswer(Mutated):
    """Of two requests that run together, the ends of the answers are exchanged."""

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        answers = self.inner.serve(prompts, slots, max_tokens)
        if min(slots, len(prompts)) < 2:
            return answers
        a, b = answers[0], answers[1]
        first, second = (
            [*a[: len(a) // 2], *b[len(b) // 2 :]],
            [*b[: len(b) // 2], *a[len(a) // 2 :]],
        )
        return [first, second, *answers[2:]]


class AnswerAliased(Mutated):
    """Requests that run together share an id, and all get the last one's answer."""

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        answers = self.inner.serve(prompts, slots, max_tokens)
        together = min(slots, len(prompts))
        return answers if together < 2 else [answers[together - 1]] * together + answers[together:]


MUTATIONS: dict[str, type[Mutated]] = {
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
