"""Rotary positions: from a GGUF's metadata and factors to ``rope_parameters``.

A GGUF of Llama 3 holds a factor per frequency in place of the four parameters that make them;
they are found by a fit and used only if they make the file's own factors.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runner.model.folder.gguf_keys import GgufKeys

_THETA = 10000.0
#: Largest relative difference between the file's factors, in fp32, and those of the parameters.
_CLOSE = 1e-5
#: What every published Llama 3 has; the factors show only how the others relate to it.
_LOW, _HIGH = 1.0, 4.0
_ORIGINAL = "rope.scaling.original_context_length"


def rotary(keys: GgufKeys, head_dim: int, context: int) -> dict[str, Any]:
    """Return the keys of config.json that say how positions are rotated.

    Args:
        keys: of the file.
        head_dim: dimensions of a head.
        context: positions that the model offers.

    Raises:
        UserError: the file asks for a scaling that is not known.
    """
    theta = keys.number("rope.freq_base", _THETA)
    size = keys.count("rope.dimension_count", head_dim)
    scaling = _scaling(keys, theta, size, context)
    parameters = {"rope_type": "default", **scaling, "rope_theta": theta}
    found: dict[str, Any] = {"rope_theta": theta, "rope_parameters": parameters}
    if size != head_dim:
        found["partial_rotary_factor"] = parameters["partial_rotary_factor"] = size / head_dim
    if scaling:
        # Engines read one or the other name of the type, and of the whole.
        found["rope_scaling"] = {**scaling, "type": scaling["rope_type"]}
    return found


def _scaling(keys: GgufKeys, theta: float, size: int, context: int) -> dict[str, Any]:
    kind = keys.plain("rope.scaling.type") or "none"
    short, long, freqs = (
        _factors(keys, f"rope_{name}.weight", size // 2)
        for name in ("factors_short", "factors_long", "freqs")
    )
    # Whether it was trained so, or only served so, changes no number.
    keys.has("rope.scaling.finetuned")
    if short and long:
        return _long(keys, short, long, context)
    if freqs:
        found = llama3_parameters(freqs, theta, size)
        if found is None:
            raise keys.wrong("no parameters of Llama 3's scaling make its rope_freqs")
        return found
    if kind == "none":
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": keys.number("rope.scaling.factor")}
    if kind == "yarn":
        return _yarn(keys)
    raise keys.wrong(f"rope.scaling.type is {kind!r:.80}, which is not known")


def _yarn(keys: GgufKeys) -> dict[str, Any]:
    names = {
        "beta_fast": "yarn_beta_fast",
        "beta_slow": "yarn_beta_slow",
        "attention_factor": "yarn_attn_factor",
    }
    stated = {
        name: keys.number(f"rope.scaling.{key}")
        for name, key in names.items()
        if keys.has(f"rope.scaling.{key}")
    }
    return {
        "rope_type": "yarn",
        "factor": keys.number("rope.scaling.factor"),
        "original_max_position_embeddings": keys.count(_ORIGINAL),
        **stated,
    }


def _long(keys: GgufKeys, short: list[float], long: list[float], context: int) -> dict[str, Any]:
    trained = keys.count(_ORIGINAL)
    factor = context / trained
    found = {
        "rope_type": "longrope",
        "factor": factor,
        "original_max_position_embeddings": trained,
        "short_factor": short,
        "long_factor": long,
    }
    usual = math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0
    attention = keys.number("rope.scaling.attn_factor", usual)
    if not math.isclose(attention, usual, rel_tol=_CLOSE):
        found["attention_factor"] = attention
    return found


def _factors(keys: GgufKeys, name: str, count: int) -> list[float]:
    tensor = keys.reading.tensors.get(name)
    if tensor is None:
        return []
    if tensor.shape != (count,):
        raise keys.wrong(f"{name} has the shape {list(tensor.shape)}, expected [{count}]")
    # Seven digits are all that fp32 holds.
    return [float(f"{value:.7g}") for value in keys.reading.values(tensor)]


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
    lengths = 2 * math.pi * theta ** (np.arange(0, dimensions, 2) / dimensions)
    between = (found > 1) & (found < factor)
    if factor == 1 or not np.any(between):
        return None
    smooth = (1 / found[between] - 1 / factor) / (1 - 1 / factor)
    high, trained = _HIGH, float(np.mean(lengths[between] * (_LOW + smooth * (_HIGH - _LOW))))
    if len(smooth) > 1:
        # trained / length = low + smooth · (high − low), at every frequency between
        sides = np.stack([1 / lengths[between], -smooth], axis=1)
        (trained, width), *_ = np.linalg.lstsq(sides, np.full(len(smooth), _LOW))
        high = _LOW + float(width)
    parameters = {
        "rope_type": "llama3",
        "factor": _short(factor),
        "low_freq_factor": _LOW,
        "high_freq_factor": _short(high),
        "original_max_position_embeddings": round(trained),
    }
    made = _llama3_factors(parameters, lengths)
    return parameters if np.allclose(made, found, rtol=_CLOSE, atol=0) else None


def _llama3_factors(parameters: dict[str, Any], lengths: Any) -> Any:
    turns = parameters["original_max_position_embeddings"] / lengths
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / parameters["factor"] + smooth)


def _short(number: float) -> float:
    """Return the number as its author wrote it: a fit of fp32 factors knows five digits."""
    return float(f"{number:.4g}")
