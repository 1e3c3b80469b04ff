"""Facts that the metadata of a GGUF file state, by the rules by which llama.cpp reads them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.model.architectures import table
from runner.model.architectures.rope import NONE, digest_of, llama3_factors, yarn_attention

#: Returns a value of the metadata, None where the file has none.
Read = Callable[[str], Any]

#: Key below the architecture's name → fact.
_KEYS = {
    "block_count": "layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "feed_forward_size",
    "attention.head_count": "heads",
    "attention.layer_norm_rms_epsilon": "rms_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attn_logit_softcapping": "attention_softcap",
    "final_logit_softcapping": "final_softcap",
    "use_parallel_residual": "parallel_residual",
    "expert_count": "experts",
    "expert_used_count": "experts_used",
    "expert_feed_forward_length": "expert_feed_forward_size",
    "expert_shared_feed_forward_length": "shared_expert_size",
}
#: Keys that are read by rules of their own, or that change nothing.
_OTHERS = frozenset(
    {
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.sliding_window",
        "attention.sliding_window_pattern",
        "attention.causal",
        "context_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.freq_base_swa",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scale_linear",
        "rope.scaling.original_context_length",
        "rope.scaling.attn_factor",
        "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "rope.scaling.finetuned",
        "vocab_size",
        "tensor_data_layout",
    }
)
#: Facts of which None is a statement: a file without the key has no such thing.
_ABSENT = (
    "rms_eps",
    "layer_norm_eps",
    "attention_softcap",
    "final_softcap",
    "parallel_residual",
    "experts",
    "experts_used",
    "shared_expert_size",
)
_THETA = 10000.0


def gguf_facts(
    read: Read, factors: Mapping[str, Sequence[float]], model: Mapping[str, Any]
) -> dict[str, Any]:
    """Return fact → value; what the metadata leave open is left out.

    Args:
        read: reads one value.
        factors: the tensors ``rope_freqs``, ``rope_factors_short`` and ``rope_factors_long`` of the
            file, by name, as far as it has them.
        model: the facts of the model. A tensor of factors that follows from them is said in their
            words, because it cannot be turned back into parameters.
    """
    name = str(read("general.architecture") or "")

    def key(inner: str) -> Any:
        return read(f"{name}.{inner}")

    facts: dict[str, Any] = {"architecture": name, **dict.fromkeys(_ABSENT)}
    for inner, fact in _KEYS.items():
        value = key(inner)
        if value is not None:
            facts[fact] = value or None if fact.startswith("experts") else value
    heads = facts.get("heads")
    grouped = key("attention.head_count_kv")
    facts["kv_heads"] = heads if grouped is None else grouped
    size = key("attention.key_length")
    if size is None and isinstance(heads, int) and heads > 0:
        size = (facts.get("hidden_size") or 0) // heads
    facts["head_dim"] = size
    dims = key("rope.dimension_count")
    facts["rope_dims"] = size if dims is None else dims
    facts["rope_theta"] = key("rope.freq_base") or _THETA
    facts |= _windows(key, name, facts.get("layers"))
    facts["rope_theta_windowed"] = (
        (key("rope.freq_base_swa") or _THETA)
        if facts["windowed_layers"] and model.get("rope_theta_windowed") is not None
        else None
    )
    facts["rope_scaling"] = _scaling(key, facts, factors, model)
    if facts["experts"] is None:
        facts |= dict.fromkeys(("expert_feed_forward_size", "expert_weights_normalised"))
        facts["dense_layers"] = None
    return facts


def with_options(read: Read, options: Mapping[str, Any]) -> Read:
    """Return a reader of the metadata as llama.cpp takes them when it is started with options.

    Args:
        read: reads the file's own metadata.
        options: of ``llama_cpp.Llama``; those of rope take the place of the file's values.
    """
    name = str(read("general.architecture") or "")
    stated = {key: options[option] for option, key in _ROPE_OPTIONS.items() if options.get(option)}
    if scale := options.get("rope_freq_scale"):
        stated["rope.scaling.factor"] = 1 / scale
    if (kind := options.get("rope_scaling_type")) in _SCALING_TYPES:
        stated["rope.scaling.type"] = _SCALING_TYPES[kind]
    changed = {f"{name}.{key}": value for key, value in stated.items()}
    return lambda key: changed[key] if key in changed else read(key)


#: Option of llama-cpp-python → key that it overrides.
_ROPE_OPTIONS = {
    "rope_freq_base": "rope.freq_base",
    "yarn_orig_ctx": "rope.scaling.original_context_length",
    "yarn_beta_fast": "rope.scaling.yarn_beta_fast",
    "yarn_beta_slow": "rope.scaling.yarn_beta_slow",
    "yarn_attn_factor": "rope.scaling.yarn_attn_factor",
}
#: llama.cpp's numbers of the types of scaling (``enum llama_rope_scaling_type``).
_SCALING_TYPES = {0: "none", 1: "linear", 2: "yarn"}


def uncompared_metadata(keys: Sequence[str]) -> list[str]:
    """Return the keys that say something of the architecture and are not read here, sorted."""
    general = ("general.", "tokenizer.", "GGUF.", "split.", "quantize.", "imatrix.")
    inner = {key: key.partition(".")[2] for key in keys if not key.startswith(general)}
    return sorted(key for key, rest in inner.items() if rest not in _OTHERS | set(_KEYS))


def _windows(key: Read, name: str, layers: Any) -> dict[str, Any]:
    size, pattern = key("attention.sliding_window"), key("attention.sliding_window_pattern")
    none: dict[str, Any] = {"sliding_window": None, "windowed_layers": []}
    known = table.of_gguf(name)
    if not size or not isinstance(layers, int):
        return none
    if isinstance(pattern, list):
        return {"sliding_window": size, "windowed_layers": [i for i, w in enumerate(pattern) if w]}
    period = pattern if isinstance(pattern, int) else max(a.window_period for a in known or _ANY)
    windowed = [i for i in range(layers) if period <= 1 or (i + 1) % period]
    return {"sliding_window": size, "windowed_layers": windowed} if windowed else none


_ANY = [table.Architecture("")]


def _scaling(
    key: Read,
    facts: Mapping[str, Any],
    factors: Mapping[str, Sequence[float]],
    model: Mapping[str, Any],
) -> dict[str, Any]:
    kind, factor = key("rope.scaling.type"), key("rope.scaling.factor") or key("rope.scale_linear")
    trained = key("rope.scaling.original_context_length") or key("context_length")
    if "rope_freqs" in factors:
        wanted = model.get("rope_scaling") or {}
        computed = llama3_factors(wanted, facts["rope_theta"], facts["rope_dims"] or 0)
        if computed is not None and _equal(computed, factors["rope_freqs"]):
            return dict(wanted)
        return {"type": "llama3", "factors": digest_of(factors["rope_freqs"])}
    if "rope_factors_long" in factors:
        # llama.cpp chooses by the size of its context, not by the length of the text.
        served = model.get("context_length") or 0
        short = "rope_factors_long" if served > (trained or served) else "rope_factors_short"
        return {
            "type": "longrope",
            "attention_factor": key("rope.scaling.attn_factor") or 1.0,
            "original_context": trained,
            "short_factors": digest_of(factors.get(short)),
            "long_factors": digest_of(factors["rope_factors_long"]),
        }
    if kind == "yarn" and factor:
        stated = key("rope.scaling.yarn_attn_factor")
        return {
            "type": "yarn",
            "factor": factor,
            "beta_fast": key("rope.scaling.yarn_beta_fast") or 32.0,
            "beta_slow": key("rope.scaling.yarn_beta_slow") or 1.0,
            "attention_factor": stated or yarn_attention(factor),
            "original_context": trained,
        }
    if kind in (None, "linear") and factor and factor != 1:
        return {"type": "linear", "factor": factor}
    return dict(NONE)


def _equal(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(abs(x - y) <= 1e-5 * abs(x) for x, y in zip(a, b, strict=True))
