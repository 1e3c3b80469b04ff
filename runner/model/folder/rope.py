"""Rotary positions: from a GGUF's metadata and factors to ``rope_parameters``.

A GGUF of Llama 3 holds a factor per frequency in place of the four parameters that make them;
they are found by a fit and used only if they make the file's own factors.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

#: Largest relative difference between the file's factors, in fp32, and those of the parameters.
_CLOSE = 1e-5
#: What every published Llama 3 was trained with; with a fit only their ratio is known.
_TRAINED = 8192


def llama3_parameters(
    factors: Sequence[float], theta: float, dimensions: int
) -> dict[str, Any] | None:
    """Return the parameters that make these factors, None if none do.

    Args:
        factors: one per frequency: 1 for short waves, the whole factor for long ones, and a
            smooth step between.
        theta: base of the frequencies.
        dimensions: rotary dimensions of a head.
    """
    found = np.asarray(factors, np.float64)
    if found.ndim != 1 or len(found) != dimensions // 2 or not np.all(found >= 1):
        return None
    factor = float(found.max())
    turns = _TRAINED / (2 * math.pi * theta ** (np.arange(0, dimensions, 2) / dimensions))
    between = (found > 1) & (found < factor)
    if factor == 1 or np.count_nonzero(between) < 2:
        return None
    smooth = (1 / found[between] - 1 / factor) / (1 - 1 / factor)
    width, low = np.polyfit(smooth, turns[between], 1)
    parameters = {
        "rope_type": "llama3",
        "factor": _short(factor),
        "low_freq_factor": _short(low),
        "high_freq_factor": _short(low + width),
        "original_max_position_embeddings": _TRAINED,
    }
    made = _llama3_factors(parameters, turns)
    return parameters if np.allclose(made, found, rtol=_CLOSE, atol=0) else None


def _llama3_factors(parameters: dict[str, Any], turns: Any) -> Any:
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / parameters["factor"] + smooth)


def _short(number: float) -> float:
    """Return the number as its author wrote it: a fit of fp32 factors knows five digits."""
    return float(f"{number:.4g}")
