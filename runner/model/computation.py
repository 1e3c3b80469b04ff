"""Which function a model computes: its weights, and all of its configuration that has an effect.

Two folders with equal weights compute different functions when one scales its rope. Numeric truth
is therefore found by the digest of both. Equal spellings have one form here. A key that is not
known to be without effect is part of the function: a truth may be missing, but is never another's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.model.artifact import read_json
from runner.model.computation_tables import (
    ACTIVATIONS,
    DEFAULTS,
    FROM_ORIGINAL_LENGTH,
    OTHER_NAMES,
    ROPE_DEFAULTS,
    UNLESS_SET,
    WINDOWED_LAYERS,
    WITHOUT_EFFECT,
)
from runner.stored.canonical import as_stored
from suites.digest import tagged_digest
from suites.errors import UserError

Facts = dict[str, Any]

#: A model with more layers than this lists none of them.
_MOST_LAYERS = 4096
_FULL, _SLIDING = "full_attention", "sliding_attention"


def computation_digest(hf: Path) -> str:
    """Return the digest (``cp1:``) of what a model folder's config.json computes.

    Raises:
        UserError: the file is missing, or holds what no JSON file can hold.
    """
    path = hf / "config.json"
    try:
        return tagged_digest("cp1", computation(read_json(path)))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise UserError(f"its values cannot be read: {error}", where=str(path)) from error


def function_digest(weights: str, computation: str) -> str:
    """Return the digest (``fn1:``) of the function of some weights under some computation.

    Args:
        weights: ``w1:…``, of the model or of a variant's dequantised tensors.
        computation: ``cp1:…``, always the model's: a variant is judged by what the model says.
    """
    return tagged_digest("fn1", [weights, computation])


def computation(config: Mapping[str, Any]) -> Facts:
    """Return one form for all spellings of one computation.

    Null is the same as a missing key, but for keys whose default is not null (``sliding_window`` of
    Mistral): there null is a value.
    """
    facts = _named(_of_text(config))
    kind = str(facts.get("model_type"))
    facts = {**DEFAULTS.get(kind, {}), **facts}
    facts["rope"] = _rope(facts, kind)
    _put_layers(facts, kind)
    _put_heads(facts)
    facts.pop("max_position_embeddings", None)
    facts.pop("original_max_position_embeddings", None)
    found: Facts = as_stored({name: value for name, value in facts.items() if value is not None})
    return found


def _of_text(config: Mapping[str, Any]) -> Facts:
    """Return the part that computes text: a model of several kinds of input nests it."""
    inner = config.get("text_config")
    if not isinstance(inner, dict):
        return dict(config)
    outer = {key: value for key, value in config.items() if key != "text_config"}
    return {**outer, **inner}


def _named(stated: Facts) -> Facts:
    """Return the keys with an effect, each under one name; two names that disagree both stay."""
    facts = {
        key: value
        for key, value in stated.items()
        if key not in WITHOUT_EFFECT and (key not in UNLESS_SET or value != UNLESS_SET[key])
    }
    for other, name in OTHER_NAMES.items():
        if other in facts and (facts[other] == facts.get(name) or facts.get(name) is None):
            facts[name] = facts.pop(other)
        elif other in facts and facts[other] is None:
            del facts[other]
    act = facts.get("hidden_act")
    if isinstance(act, str):
        facts["hidden_act"] = ACTIVATIONS.get(act, act)
    return facts


def _rope(facts: Facts, kind: str) -> Facts | None:
    """Take what rope is computed from out of ``facts``; return it, by kind of layer where each has
    its own.

    As in transformers, ``rope_scaling`` replaces ``rope_parameters``, and what stands in them
    outranks the same key beside them.
    """
    scaling, given = facts.pop("rope_scaling", None), facts.pop("rope_parameters", None)
    theta, local = facts.pop("rope_theta", None), facts.pop("rope_local_base_freq", None)
    shared = {
        "rope_theta": theta,
        "partial_rotary_factor": facts.pop("partial_rotary_factor", None),
    }
    if local is not None:
        return _rope_by_layer(facts, shared, local, scaling, given)
    stated = scaling or given or {}
    if not isinstance(stated, dict):
        stated = {"stated": stated}
    if any(isinstance(part, dict) for part in stated.values()):
        return {name: _one_rope(facts, shared, part, kind) for name, part in stated.items()}
    if not stated and all(value is None for value in shared.values()):
        return None
    whole: Facts = _one_rope(facts, shared, stated, kind)
    return whole


def _rope_by_layer(facts: Facts, shared: Facts, local: Any, scaling: Any, given: Any) -> Facts:
    """Return the rope of an architecture whose layers with a window have a base of their own.

    Scaling is that of the layers without a window.
    """
    parts: Facts = {
        _FULL: {},
        _SLIDING: {},
        **(given if isinstance(given, dict) else {"stated": given}),
    }
    if scaling is not None:
        own = parts[_FULL] if isinstance(parts[_FULL], dict) else {}
        parts[_FULL] = {**own, **(scaling if isinstance(scaling, dict) else {"stated": scaling})}
    bases = {_FULL: shared, _SLIDING: {**shared, "rope_theta": local}}
    return {
        name: _one_rope(facts, bases.get(name, shared), part or {}, "")
        for name, part in parts.items()
        if name in bases or part is not None
    }


def _one_rope(facts: Facts, shared: Facts, stated: Any, kind: str) -> Any:
    if not isinstance(stated, dict):
        return stated
    rope = {key: value for key, value in stated.items() if value is not None}
    named = rope.pop("type", "default")
    form = rope.pop("rope_type", named)
    if form == "su" or (kind == "phi3" and form == "yarn"):
        form = "longrope"  # the names of before
    length = facts.get("max_position_embeddings")
    original = rope.pop("original_max_position_embeddings", None)
    rope = {**shared, **ROPE_DEFAULTS.get(str(form), {}), **rope, "rope_type": form}
    if form == "dynamic":
        rope["max_position_embeddings"] = length
    if form in FROM_ORIGINAL_LENGTH:
        outer = facts.get("original_max_position_embeddings")
        original = next((n for n in (outer, original, length) if n is not None), None)
        rope["original_max_position_embeddings"] = original
        if rope.get("factor") is None and _count(length) and _count(original):
            rope["factor"] = _count(length) / _count(original)
    if rope.get("partial_rotary_factor") == 1:
        del rope["partial_rotary_factor"]
    return {key: value for key, value in rope.items() if value is not None}


def _put_layers(facts: Facts, kind: str) -> None:
    """Replace the spellings of which layers have a window by a list of the layers' kinds.

    Without a window there is nothing to list, unless each kind has its own rope."""
    rule, layers = WINDOWED_LAYERS.get(kind), _count(facts.get("num_hidden_layers"))
    listed = isinstance(facts.get("layer_types"), list)
    if (rule is None and not listed) or not 0 < layers <= _MOST_LAYERS:
        return
    rest = {name: facts.pop(name, None) for name in ("max_window_layers", "sliding_window_pattern")}
    # Null switches a window off too, as in transformers.
    if not facts.pop("use_sliding_window", True) or not facts.get("sliding_window"):
        facts["sliding_window"] = None
    if not listed:
        kinds = [_kind_of_layer(str(rule), index, rest) for index in range(layers)]
    else:
        kinds = facts["layer_types"]
    nested = any(isinstance(part, dict) for part in (facts["rope"] or {}).values())
    if facts["sliding_window"] is None and not nested:
        kinds = [_FULL if name == _SLIDING else name for name in kinds]
    whole = set(map(str, kinds)) == {_FULL}
    if whole:
        facts["sliding_window"] = None
    facts["layer_types"] = None if whole else kinds


def _kind_of_layer(rule: str, index: int, rest: Facts) -> str:
    first, every = _count(rest["max_window_layers"]), _count(rest["sliding_window_pattern"])
    windowed = {
        "all": True,
        "upper": index >= first,
        "below": index < first and index % 2 == 0,
        "second": index % 2 == 0,
        "pattern": every > 0 and (index + 1) % every != 0,
    }[rule]
    return _SLIDING if windowed else _FULL


def _put_heads(facts: Facts) -> None:
    """Write out what follows from other numbers."""
    heads, width = _count(facts.get("num_attention_heads")), _count(facts.get("hidden_size"))
    if facts.get("num_key_value_heads") is None:
        facts["num_key_value_heads"] = facts.get("num_attention_heads")
    if facts.get("head_dim") is None and heads and width:
        facts["head_dim"] = width // heads


def _count(value: Any) -> int:
    """Return a positive whole number; 0 for anything else."""
    return value if type(value) is int and value > 0 else 0
