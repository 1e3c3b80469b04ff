"""Facts that a configuration in Hugging Face's words states, and its keys that are not understood.

The same rules read the model's config.json and the configuration that an engine holds.
"""

from collections.abc import Mapping
from typing import Any

from runner.model.architectures import table
from runner.model.architectures.rope import PARAMETERS, SHARED, rope_scaling, rope_type
from runner.model.architectures.stated import Stated

#: Rope base where a configuration states none.
_THETA = 10000.0
_MOST_LAYERS = 10_000
#: Facts that every known architecture has; None is a statement there: it has no such thing.
ARCHITECTURE_FACTS = (
    "hidden_size",
    "feed_forward_size",
    "head_dim",
    "rope_dims",
    "rope_scaling",
    "rope_theta_windowed",
    "layer_norm_eps",
    "windowed_layers",
    "attention_scale",
    "attention_softcap",
    "final_softcap",
    "activation",
    "tied_head",
    "parallel_residual",
    "experts",
    "experts_used",
    "expert_feed_forward_size",
    "shared_expert_size",
    "expert_weights_normalised",
    "dense_layers",
)


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the language model; that of a multimodal model is nested."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else dict(config)


def config_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return fact → value; None means that there is none of it, or that any value is right.

    An architecture that is not known has the facts whose keys say what they are.

    Raises:
        ValueError: a value has the wrong type; the message names its key.
    """
    stated, known = _stated(config)
    heads = stated.integer("num_attention_heads")
    grouped = stated.integer("num_key_value_heads")
    facts: dict[str, Any] = {
        "architecture": table.gguf_name(_model_type(config)),
        "heads": heads,
        "kv_heads": heads if grouped is None else grouped,
        "vocab_size": stated.integer("vocab_size"),
        "layers": stated.integer("num_hidden_layers"),
        "rms_eps": stated.number("rms_norm_eps"),
        "context_length": stated.integer("max_position_embeddings"),
    }
    local, everywhere = _rope_parameters(stated)
    theta = everywhere.number("rope_theta") or stated.number(_theta_key(stated))
    facts["rope_theta"] = theta or (None if local else _THETA)
    if known is None:
        windowed = stated.get("use_sliding_window") is not False
        facts["sliding_window"] = stated.integer("sliding_window") if windowed else None
        return facts
    facts |= dict.fromkeys(name for name in ARCHITECTURE_FACTS if name not in facts)
    facts |= dict(known.fixed)
    for key, fact in {**table.KEYS, **known.keys}.items():
        value = stated.get(key)
        if value is not None:
            facts[fact] = value
    facts |= _attention(stated, heads) | _windows(stated, known)
    facts["dense_layers"] = None if facts["experts"] is None else _dense_layers(stated)
    if facts["windowed_layers"] and local:
        facts["rope_theta_windowed"] = local.number("rope_theta") or _THETA
    partial = everywhere.number("partial_rotary_factor") or stated.number(_partial_key(stated))
    if facts["head_dim"] is not None:
        facts["rope_dims"] = int(facts["head_dim"] * (1.0 if partial is None else partial))
    context, original = facts["context_length"], "original_max_position_embeddings"
    facts["rope_scaling"] = rope_scaling(everywhere, context, stated.integer(original))
    activation = stated.text("hidden_act") or "silu"
    if "hidden_activation" in table.RULE_KEYS.get(_known_type(config), ()):
        activation = Stated(stated.values).text("hidden_activation") or "gelu_tanh"
    facts["activation"] = table.ACTIVATIONS.get(activation, activation)
    facts["tied_head"] = bool(stated.get("tie_word_embeddings"))
    return facts


def uncompared_keys(config: Mapping[str, Any]) -> list[str]:
    """Return the keys that state something which nothing here compares, sorted."""
    _, known = _stated(config)
    values = text_config(config)
    silent = table.INERT | table.READ_BY_RULE | table.IN_WEIGHTS | set(table.KEYS)
    if known is not None:
        silent |= known.inert | set(known.keys) | table.WINDOW_KEYS[known.windows]
        silent |= table.RULE_KEYS.get(_known_type(config), frozenset())
    else:
        silent -= {"hidden_act", "head_dim", "partial_rotary_factor"}
    if values.get("use_sliding_window") is False:
        silent |= table.WINDOW_KEYS["from"]
    if set(_strings(values.get("layer_types"))) <= {"full_attention"}:
        silent |= {"layer_types"}
    found = {
        key
        for key, value in values.items()
        if key not in silent and value is not None and table.NEUTRAL.get(key, _NOTHING) != value
    }
    return sorted(found | _uncompared_rope(values))


_NOTHING = object()


def _strings(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _model_type(config: Mapping[str, Any]) -> str:
    return str(text_config(config).get("model_type", ""))


def _known_type(config: Mapping[str, Any]) -> str:
    found = _model_type(config)
    return table.ALIASES.get(found, found)


def _stated(config: Mapping[str, Any]) -> tuple[Stated, table.Architecture | None]:
    kind = _model_type(config)
    return Stated(text_config(config), table.defaults(kind)), table.known(kind)


def _theta_key(stated: Stated) -> str:
    return "rotary_emb_base" if "rotary_emb_base" in stated.values else "rope_theta"


def _partial_key(stated: Stated) -> str:
    return "rotary_pct" if "rotary_pct" in stated.values else "partial_rotary_factor"


def _rope_parameters(stated: Stated) -> tuple[Stated | None, Stated]:
    """Return the parameters of windowed layers, if they have their own, and those of the others."""
    found = stated.table("rope_scaling") or stated.table("rope_parameters")
    kinds = {kind: part for kind, part in found.items() if isinstance(part, dict)}
    if kinds:
        sliding = Stated(kinds.get("sliding_attention", {}))
        full = kinds.get("full_attention")
        return sliding, Stated(full if full is not None else {})
    if base := stated.number("rope_local_base_freq"):
        return Stated({"rope_theta": base}), Stated(found)
    return None, Stated(found)


def _uncompared_rope(values: Mapping[str, Any]) -> set[str]:
    """Return parameters of the rotary positions that their type does not use, with their path."""
    found = set[str]()
    for key in ("rope_scaling", "rope_parameters"):
        table_ = values.get(key)
        if not isinstance(table_, dict):
            continue
        kinds = {k: part for k, part in table_.items() if isinstance(part, dict)} or {"": table_}
        for kind, part in kinds.items():
            path = f"{key}.{kind}." if kind else f"{key}."
            named = rope_type(Stated(part))
            used = SHARED | PARAMETERS.get(named, frozenset())
            if named not in PARAMETERS or (kind == "sliding_attention" and named != "default"):
                used = SHARED - {"rope_type", "type"}
            found |= {path + name for name, value in part.items() if value is not None} - {
                path + name for name in used
            }
    return found


def _attention(stated: Stated, heads: int | None) -> dict[str, Any]:
    size = stated.integer("head_dim")
    hidden = stated.integer("hidden_size")
    if size is None and hidden and heads:
        size = hidden // heads
    scalar = stated.number("query_pre_attn_scalar") or size
    return {"head_dim": size, "attention_scale": None if not scalar else float(scalar) ** -0.5}


def _windows(stated: Stated, known: table.Architecture) -> dict[str, Any]:
    """Return the size of the window and the layers that have it."""
    size, layers = stated.integer("sliding_window"), _layers(stated)
    if known.windows == "none" or stated.flag("use_sliding_window") is False:
        return {"sliding_window": None, "windowed_layers": []}
    period = stated.integer("sliding_window_pattern") or known.window_period
    kinds = stated.get("layer_types")
    if isinstance(kinds, list) and "layer_types" in table.WINDOW_KEYS[known.windows]:
        windowed = [i for i, kind in enumerate(kinds) if kind == "sliding_attention"]
    elif known.windows == "all":
        windowed = list(range(layers))
    elif known.windows == "from":
        windowed = list(range(stated.integer("max_window_layers") or 0, layers))
    else:
        windowed = [i for i in range(layers) if (i + 1) % period]
    if not size or not windowed:
        return {"sliding_window": None, "windowed_layers": []}
    return {"sliding_window": size, "windowed_layers": windowed}


def _dense_layers(stated: Stated) -> list[int]:
    """Return the layers without experts in a model that has some."""
    step = stated.integer("decoder_sparse_step") or 1
    dense = {i for i in range(_layers(stated)) if (i + 1) % step}
    return sorted(dense | set(stated.ids("mlp_only_layers") or ()))


def _layers(stated: Stated) -> int:
    found = stated.integer("num_hidden_layers") or 0
    if 0 <= found <= _MOST_LAYERS:
        return found
    raise ValueError(f"num_hidden_layers is {found}, which is no number of layers")
