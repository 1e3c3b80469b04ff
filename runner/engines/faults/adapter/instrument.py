"""Measurements that are wrong while the answers are right: log-probs of the wrong rows or calls."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from runner.engines.abilities import Adapter, Distribution, distribution_of
from runner.engines.base import Logits
from runner.engines.faults.adapter.base import AdapterMutation, AdapterMutationOptions
from runner.engines.faults.adapter.harmed_logits import noise


class _Reported:
    """What an engine reports of its distributions."""

    def __init__(self, engine: Distribution, fault: "Misread") -> None:
        self._engine, self._fault = engine, fault

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        rows = self._engine.prefill(ids, cold=cold)
        return self._fault.misread(rows, ids[1:], cold=cold)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        rows = self._engine.decode(prompt, output)
        return self._fault.misread(rows, output, cold=False)


class Misread(AdapterMutation):
    """What prefill and decode report is changed; nothing else is."""

    needs = ("distribution",)

    def applied(self) -> Adapter:
        engine = distribution_of(self.inner)
        return replace(self.inner, distribution=_Reported(engine, self))

    @abstractmethod
    def misread(self, rows: Logits, following: Sequence[int], *, cold: bool) -> Logits:
        """Return the rows [n, V] that are reported.

        Args:
            rows: what the engine computed.
            following: the ids that the rows predict, as far as they are known (n or n - 1).
            cold: whether caches were to be left out.
        """


class RowsShifted(Misread):
    """Each position is given the log-probs of one before it."""

    def misread(self, rows: Logits, following: Sequence[int], *, cold: bool) -> Logits:
        return np.roll(rows, int(self.by), axis=0)


class LogprobZero(Misread):
    """Every token that came is reported with probability 1."""

    def misread(self, rows: Logits, following: Sequence[int], *, cold: bool) -> Logits:
        found = rows.copy()
        n = len(following)
        found[:n] = -1e9
        found[np.arange(n), list(following)] = 0.0
        return found


class OrderNoise(Misread):
    """Numbers depend on how many requests came before."""

    strength = 1e-3
    _calls = 0

    def misread(self, rows: Logits, following: Sequence[int], *, cold: bool) -> Logits:
        self._calls += 1
        places = np.arange(len(rows), dtype=np.int64)
        return noise(rows, places, self.by, self.options.seed + self._calls)


class WarmNoise(Misread):
    """Numbers differ between a cached prompt and one without a cache."""

    strength = 1e-3

    def misread(self, rows: Logits, following: Sequence[int], *, cold: bool) -> Logits:
        places = np.arange(len(rows), dtype=np.int64)
        return rows if cold else noise(rows, places, self.by, self.options.seed)


class StaleRows(Misread):
    """The first quarter of the rows is what the request before left in the buffer."""

    def __init__(self, adapter: Adapter, options: AdapterMutationOptions) -> None:
        super().__init__(adapter, options)
        self._before: Logits | None = None

    def misread(self, rows: Logits, following: Sequence[int], *, cold: bool) -> Logits:
        found, before = rows.copy(), self._before
        self._before = rows.copy()
        if before is not None:
            n = min(len(found), len(before)) // 4
            found[:n] = before[:n]
        return found


class Tempered(Misread):
    """Log-probs are reported after the temperature was applied."""

    strength = 0.5

    def misread(self, rows: Logits, following: Sequence[int], *, cold: bool) -> Logits:
        return (rows / self.by).astype(np.float32)


INSTRUMENT: dict[str, type[AdapterMutation]] = {
    "rows-shifted": RowsShifted,
    "logprob-zero": LogprobZero,
    "order-noise": OrderNoise,
    "warm-noise": WarmNoise,
    "stale-rows": StaleRows,
    "tempered": Tempered,
}
