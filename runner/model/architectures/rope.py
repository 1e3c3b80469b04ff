"""Rotary positions: one form of the scaling that a configuration asks for.

The parameters are those of transformers' ``modeling_rope_utils``; each form holds what its type
uses, with the defaults filled in, so that equal forms compute the same.
"""

import hashlib
import math
import struct
from collections.abc import Sequence
from typing import Any

from runner.model.architectures.stated import Stated

#: The form where nothing is scaled.
NONE: dict[str, Any] = {"type": "none"}
#: Parameters that each type of scaling uses, beside those of every type.
PARAMETERS = {
    "default": frozenset[str](),
    "linear": frozenset({"factor"}),
    "dynamic": frozenset({"factor"}),
    "yarn": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "attn_factor",
            "mscale",
            "mscale_all_dim",
            "truncate",
        }
    ),
    "longrope": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "attention_factor",
            "short_factor",
            "long_factor",
        }
    ),
    "llama3": frozenset(
        {
            "factor",
            "original_max_position_embeddings",
            "low_freq_factor",
            "high_freq_factor",
        }
    ),
}
#: Parameters of every type.
SHARED = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
#: Other names of a type.
_SAME = {"su": "longrope"}


def rope_type(parameters: Stated) -> str:
    """Return the type of scaling; a key of old configurations names it too."""
    found = parameters.text("rope_type") or parameters.text("type") or "default"
    return _SAME.get(found, found)


def rope_scaling(parameters: Stated, context: int | None, original: int | None) -> dict[str, Any]:
    """Return what ``rope_parameters`` asks for.

    Args:
        parameters: of one kind of layer.
        context: ``max_position_embeddings``.
        original: ``original_max_position_embeddings`` beside the parameters, which outranks theirs.
    """
    kind = rope_type(parameters)
    factor = parameters.number("factor")
    trained = original or parameters.integer("original_max_position_embeddings") or context
    if kind == "default" or (kind == "linear" and factor == 1):
        return dict(NONE)
    if kind == "linear":
        return {"type": kind, "factor": factor}
    if kind == "dynamic":
        return {"type": kind, "factor": factor, "original_context": context}
    if kind == "llama3":
        return {
            "type": kind,
            "factor": factor,
            "low_freq_factor": parameters.number("low_freq_factor"),
            "high_freq_factor": parameters.number("high_freq_factor"),
            "original_context": trained,
        }
    if factor is None and context and trained:
        factor = context / trained
    if kind == "yarn":
        return {
            "type": kind,
            "factor": factor,
            "beta_fast": parameters.number("beta_fast") or 32.0,
            "beta_slow": parameters.number("beta_slow") or 1.0,
            "attention_factor": _yarn_attention(parameters, factor or 1.0),
            "original_context": trained,
        }
    if kind == "longrope":
        return {
            "type": kind,
            "attention_factor": _long_attention(parameters, factor or 1.0, trained or 1),
            "original_context": trained,
            "short_factors": digest_of(parameters.numbers("short_factor")),
            "long_factors": digest_of(parameters.numbers("long_factor")),
        }
    return {"type": kind}


def digest_of(factors: Sequence[float] | None) -> str | None:
    """Return a short digest of factors as float32, which is how GGUF files keep them."""
    if factors is None:
        return None
    try:
        packed = struct.pack(f"<{len(factors)}f", *factors)
    except OverflowError:
        return "infinite"
    return hashlib.sha256(packed).hexdigest()[:12]


def llama3_factors(scaling: dict[str, Any], theta: float, dims: int) -> list[float] | None:
    """Return by what Llama 3's scaling divides each frequency; None where a parameter is missing.

    GGUF files hold these factors as a tensor and none of the parameters.
    """
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_context")
    values = [scaling.get(name) for name in names]
    if any(not value for value in values) or values[1] == values[2]:
        return None
    factor, low, high, trained = (float(value or 0) for value in values)
    found = []
    for i in range(0, dims, 2):
        wavelength = 2 * math.pi * theta ** (i / dims)
        if wavelength < trained / high:
            found.append(1.0)
        elif wavelength > trained / low:
            found.append(factor)
        else:
            smooth = (trained / wavelength - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return found


def yarn_attention(factor: float, scale: float = 1.0) -> float:
    """Return YaRN's own scale of the attention, ``0.1 · scale · ln factor + 1``."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _yarn_attention(parameters: Stated, factor: float) -> float:
    stated = parameters.number("attention_factor") or parameters.number("attn_factor")
    if stated is not None:
        return stated
    scale, everywhere = parameters.number("mscale"), parameters.number("mscale_all_dim")
    if scale and everywhere:
        return yarn_attention(factor, scale) / yarn_attention(factor, everywhere)
    return yarn_attention(factor)


def _long_attention(parameters: Stated, factor: float, trained: int) -> float:
    stated = parameters.number("attention_factor")
    if stated is not None:
        return stated
    if factor <= 1 or trained <= 1:
        return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(trained))
