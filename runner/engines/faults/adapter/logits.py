"""Kernels that compute something else, by the position of a row."""

import numpy as np
import numpy.typing as npt

from runner.engines.base import Logits
from runner.engines.faults.adapter.base import AdapterMutation
from runner.engines.faults.adapter.harmed_logits import HarmedLogits, Positions, noise

_NEVER = 1 << 30


class NoiseRange(HarmedLogits):
    """Noise in one range of positions."""

    strength = 0.1

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        last = _NEVER if self.options.last is None else self.options.last
        hit = (places >= (self.options.first or 0)) & (places <= last)
        rows[hit] = noise(rows[hit], places[hit], self.by, self.options.seed)
        return rows


class DistanceGrowth(HarmedLogits):
    """An error that grows with the position, as that of a wrong rotation does."""

    strength = 1e-3

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        clean = noise(rows, places, 1.0, self.options.seed) - rows
        return (rows + self.by * places[:, None] * clean).astype(np.float32)


class Softcap(HarmedLogits):
    """Logits are squeezed between -by and by, or were not although the model says so."""

    strength = 10.0

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        return np.asarray(self.by * np.tanh(rows / self.by), np.float32)


class DecodeNoise(HarmedLogits):
    """Only steps on the cache are wrong; a prefill of the same tokens is right."""

    strength = 0.1

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        rows[decoded] = noise(rows[decoded], places[decoded], self.by, self.options.seed)
        return rows


class NanFrom(HarmedLogits):
    """An overflow: nothing but NaN from a position on."""

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        rows[places >= (self.options.first or 0)] = np.nan
        return rows


class ZeroIdRange(HarmedLogits):
    """One shard of the vocabulary is missing from the sum."""

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        last = rows.shape[1] - 1 if self.options.last is None else self.options.last
        rows[:, self.options.first or 0 : last + 1] = 0.0
        return rows


class StepFrom(HarmedLogits):
    """Right up to a position, wrong from there on, as behind the end of a window."""

    strength = 0.1

    def harm(self, rows: Logits, places: Positions, decoded: npt.NDArray[np.bool_]) -> Logits:
        hit = places >= (64 if self.options.first is None else self.options.first)
        rows[hit] = noise(rows[hit], places[hit], self.by, self.options.seed)
        return rows


LOGITS: dict[str, type[AdapterMutation]] = {
    "noise-range": NoiseRange,
    "distance-growth": DistanceGrowth,
    "softcap": Softcap,
    "decode-noise": DecodeNoise,
    "nan-from": NanFrom,
    "zero-id-range": ZeroIdRange,
    "step-from": StepFrom,
}
