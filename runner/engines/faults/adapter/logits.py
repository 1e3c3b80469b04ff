"""Kernels that compute something else; every path that takes logits takes the harmed ones."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.engines.base import Adapter, Logits
from runner.engines.faults.adapter.base import Mutated, OwnAnswers, Spec
from runner.engines.faults.adapter.sampler import probabilities

_NEVER = 1 << 30
Positions = npt.NDArray[np.int64]


class Harmed(OwnAnswers):
    """Rows of logits are changed by their position, and answers follow from the changed rows."""

    def __init__(self, inner: Adapter, spec: Spec) -> None:
        super().__init__(inner, spec)
        self._answers: dict[tuple[Any, ...], list[int]] = {}

    @abstractmethod
    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        """Return changed rows [n, V].

        Args:
            rows: logits [n, V], to be changed in place or not.
            places: position [n] of each row.
            decoded: whether [n] a row was computed one token at a time on the cache.
        """

    def _harmed(self, rows: Logits, start: int = 0, decoded_from: int = _NEVER) -> Logits:
        places = np.arange(start, start + len(rows), dtype=np.int64)
        return self.harm(np.array(rows, np.float32), places, places >= decoded_from)

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        return self._harmed(self.inner.prefill(ids, cold=cold))

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        rows = self.inner.decode(prompt, output)
        return self._harmed(rows, len(prompt) - 1, len(prompt))

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        found = zip(self.inner.batch(sequences), sequences, strict=True)
        return [self._harmed(rows, 0, len(prompt)) for rows, (prompt, _) in found]

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self._harmed(self.inner.chunked(ids, size))

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        start, rows = self.inner.warm(earlier, ids)
        return start, self._harmed(rows, start)

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        return self._harmed(self.inner.reused(earlier, ids))

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return [self.generate(p, {"temperature": 0.0}, max_tokens, None) for p in prompts]

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        chances = probabilities(_sampled(self.prefill(prompt)[-1]), asked, prompt)
        drawn = np.random.default_rng(seed).choice(len(chances), n, p=chances)
        return [int(token) for token in drawn]

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        key = (tuple(prompt), repr(sorted(asked.items())), max_tokens, seed)
        if key not in self._answers:
            self._answers[key] = self._generated(prompt, asked, max_tokens, seed)
        return list(self._answers[key])

    def _generated(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        ends, rng = set(self.eos_ids()), np.random.default_rng(seed or 0)
        ids, output = list(prompt), list[int]()
        while len(output) < max_tokens and not ends & set(output[-1:]):
            rows = self.inner.prefill(ids)[-1:]
            row = self._harmed(rows, len(ids) - 1, len(prompt))[0]
            chances = probabilities(_sampled(row), asked, ids)
            token = int(np.argmax(chances))
            if asked.get("temperature", 1.0):
                token = int(rng.choice(len(chances), p=chances))
            output.append(token)
            ids.append(token)
        return output


def _sampled(row: Logits) -> Logits:
    """Return a row as a sampler sees it that does not look for NaN: every id is as likely."""
    return np.asarray(np.nan_to_num(row, nan=0.0, posinf=0.0, neginf=-1e30), np.float32)


def noise(rows: Logits, places: Positions, by: float, seed: int) -> Logits:
    """Return rows with Gaussian noise of ``by`` nats, the same for a position each time."""
    drawn = [np.random.default_rng([seed, int(p)]).standard_normal(rows.shape[1]) for p in places]
    return np.asarray(rows + by * np.array(drawn).reshape(rows.shape), np.float32)


class NoiseRange(Harmed):
    """Noise in one range of positions."""

    strength = 0.1

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        last = _NEVER if self.spec.last is None else self.spec.last
        hit = (places >= (self.spec.first or 0)) & (places <= last)
        rows[hit] = noise(rows[hit], places[hit], self.by, self.spec.seed)
        return rows


class DistanceGrowth(Harmed):
    """An error that grows with the position, as that of a wrong rotation does."""

    strength = 1e-3

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        clean = noise(rows, places, 1.0, self.spec.seed) - rows
        return (rows + self.by * places[:, None] * clean).astype(np.float32)


class Softcap(Harmed):
    """Logits are squeezed between -by and by, or were not although the model says so."""

    strength = 10.0

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        return np.asarray(self.by * np.tanh(rows / self.by), np.float32)


class DecodeNoise(Harmed):
    """Only steps on the cache are wrong; a prefill of the same tokens is right."""

    strength = 0.1

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        rows[decoded] = noise(rows[decoded], places[decoded], self.by, self.spec.seed)
        return rows


class NanFrom(Harmed):
    """An overflow: nothing but NaN from a position on."""

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        rows[places >= (self.spec.first or 0)] = np.nan
        return rows


class ZeroIdRange(Harmed):
    """One shard of the vocabulary is missing from the sum."""

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        last = rows.shape[1] - 1 if self.spec.last is None else self.spec.last
        rows[:, self.spec.first or 0 : last + 1] = 0.0
        return rows


class StepFrom(Harmed):
    """Right up to a position, wrong from there on, as behind the end of a window."""

    strength = 0.1

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        hit = places >= (64 if self.spec.first is None else self.spec.first)
        rows[hit] = noise(rows[hit], places[hit], self.by, self.spec.seed)
        return rows


MUTATIONS: dict[str, type[Mutated]] = {
    "noise-range": NoiseRange,
    "distance-growth": DistanceGrowth,
    "softcap": Softcap,
    "decode-noise": DecodeNoise,
    "nan-from": NanFrom,
    "zero-id-range": ZeroIdRange,
    "step-from": StepFrom,
}
