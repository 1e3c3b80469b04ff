"""What the layers of an MLX model were built with, which counts more than what was asked for."""

import importlib
from typing import Any

from runner.model.architectures.rope import NONE, rope_scaling
from runner.model.architectures.stated import Stated

#: Class of a rotary embedding → type of scaling.
_SCALED = {
    "SuScaledRoPE": "longrope",
    "Llama3RoPE": "llama3",
    "YarnRoPE": "yarn",
    "DynamicNTKScalingRoPE": "dynamic",
}


def built_facts(model: Any) -> dict[str, Any]:
    """Return facts by name; what the layers do not show is left out."""
    found: dict[str, Any] = dict(_windows(model))
    windowed = found.get("windowed_layers") or []
    layers = list(model.layers)
    everywhere = [i for i in range(len(layers)) if i not in windowed] or [0]
    attention = _attention(layers[everywhere[0]])
    rope = getattr(attention, "rope", None)
    theta = _theta(rope, model.args)
    if theta is not None:
        found["rope_theta"] = theta
    if windowed and len(windowed) < len(layers):
        local = _theta(getattr(_attention(layers[windowed[0]]), "rope", None), None)
        found["rope_theta_windowed"] = None if local == theta else local
    elif windowed:
        found["rope_theta_windowed"] = None
    if rope is not None:
        found |= _rope(rope, model.args)
    if (scale := getattr(attention, "scale", None)) is not None:
        found["attention_scale"] = float(scale)
    if (size := getattr(attention, "head_dim", None)) is not None:
        found["head_dim"] = int(size)
    norm: Any = getattr(getattr(model, "model", None), "norm", None)
    if "RMSNorm" in type(norm).__name__ and hasattr(norm, "eps"):
        found["rms_eps"] = float(norm.eps)
    if hasattr(model, "lm_head") or hasattr(model.args, "tie_word_embeddings"):
        found["tied_head"] = not hasattr(model, "lm_head")
    if (experts := getattr(model.args, "num_local_experts", None)) is not None:
        found["experts"] = experts
    return found


def _attention(layer: Any) -> Any:
    return getattr(layer, "self_attn", None) or getattr(layer, "attention", None)


def _theta(rope: Any, arguments: Any) -> float | None:
    """Return the base; a scaled embedding keeps its frequencies alone, made from the arguments."""
    base = getattr(rope, "base", None)
    if base is None and type(rope).__name__ in _SCALED:
        base = getattr(arguments, "rope_theta", None)
    return None if base is None else float(base)


def _rope(rope: Any, arguments: Any) -> dict[str, Any]:
    dims = getattr(rope, "dims", None) or getattr(rope, "dim", None)
    found: dict[str, Any] = {} if dims is None else {"rope_dims": int(dims)}
    name = type(rope).__name__
    if name == "RoPE":
        scale = float(getattr(rope, "scale", 1.0))
        linear = {"type": "linear", "factor": 1.0 / scale}
        found["rope_scaling"] = dict(NONE) if scale == 1.0 else linear
    elif name in _SCALED:
        parameters = Stated(dict(getattr(arguments, "rope_scaling", None) or {}))
        context = getattr(arguments, "max_position_embeddings", None)
        original = getattr(arguments, "original_max_position_embeddings", None)
        asked = rope_scaling(parameters, context, original)
        if asked["type"] != _SCALED[name]:
            asked = {"type": _SCALED[name]}
        elif asked["type"] == "longrope":
            # It keeps one set of frequencies, made with the long factors, for texts of any length.
            asked |= {"short_factors": asked["long_factors"]}
        found["rope_scaling"] = asked
    return found


def _windows(model: Any) -> dict[str, Any]:
    """Return the layers that keep a window: those whose cache rotates."""
    caches = importlib.import_module("mlx_lm.models.cache").make_prompt_cache(model)
    sizes = {i: c.max_size for i, c in enumerate(caches) if type(c).__name__ == "RotatingKVCache"}
    if len(caches) != len(model.layers):
        return {}
    return {
        "sliding_window": int(max(sizes.values())) if sizes else None,
        "windowed_layers": sorted(sizes),
    }
