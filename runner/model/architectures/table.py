"""The architectures that are known, by Hugging Face's ``model_type``.

A key of config.json that is in none of these tables is named by the ``config`` stage as not
compared. What config.json leaves out has the defaults of ``computation_tables``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from runner.model.computation_tables import DEFAULTS, WITHOUT_EFFECT

#: Which layers see only a window: none, all of them, those from ``max_window_layers`` on, or all
#: except every n-th one.
Windows = Literal["none", "all", "from", "period"]


@dataclass(frozen=True)
class Architecture:
    """What is special about one architecture."""

    gguf: str
    """Its name in GGUF files."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Key of config.json → fact, beside those of ``KEYS``."""
    inert: frozenset[str] = frozenset()
    """Keys that its implementation ignores."""
    windows: Windows = "none"
    window_period: int = 1
    """With ``period``: layer i has a window unless i + 1 is a multiple of it."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Facts that no key states."""
    permuted: bool = False
    """Whether GGUF files hold the q and k rows of each head in another order."""
    norm_shift: float = 0.0
    """What the converter to GGUF adds to the weights of each norm."""
    grouped_qkv: bool = False
    """Whether Hugging Face interleaves q, k and v by head in one matrix; GGUF has them in a row."""
    cut_embeddings: bool = False
    """Whether the converter to GGUF drops rows of the embedding that no token has."""


#: Keys that several architectures share → fact.
KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "feed_forward_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "rms_norm_eps": "rms_eps",
    "tie_word_embeddings": "tied_head",
}
#: Keys whose meaning depends on others: they are read by rules of their own.
READ_BY_RULE = frozenset(
    {
        "model_type",
        "text_config",
        "bos_token_id",
        "eos_token_id",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "max_position_embeddings",
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "partial_rotary_factor",
        "original_max_position_embeddings",
    }
)
_WINDOW_KEYS = frozenset({"sliding_window", "layer_types"})
#: Keys by the rule for windows that reads them.
WINDOW_KEYS: dict[Windows, frozenset[str]] = {
    "none": frozenset(),
    "all": frozenset({"sliding_window", "use_sliding_window"}),
    "from": _WINDOW_KEYS | {"use_sliding_window", "max_window_layers"},
    "period": _WINDOW_KEYS | {"sliding_window_pattern", "_sliding_window_pattern"},
}
#: Keys that change no number of a forward pass, and those that describe how the file is packed.
INERT = WITHOUT_EFFECT | {"cache_implementation", "quantization_config", "tie_encoder_decoder"}
#: Keys that the ``weights`` stage compares: whether a tensor exists.
IN_WEIGHTS = frozenset({"attention_bias", "mlp_bias", "qkv_bias"})
#: Key → value at which it changes nothing. Null is such a value of every key.
NEUTRAL = {
    "rope_interleaved": False,
    "use_bidirectional_attention": False,
    "is_causal": True,
    "add_cross_attention": False,
    "tie_encoder_decoder": False,
}
#: One name of each activation function.
ACTIVATIONS = {
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}

_SAME_SIZED_EXPERTS = {
    "num_experts": "experts",
    "num_local_experts": "experts",
    "num_experts_per_tok": "experts_used",
}
_MOE = {
    **_SAME_SIZED_EXPERTS,
    "moe_intermediate_size": "expert_feed_forward_size",
    "norm_topk_prob": "expert_weights_normalised",
}
#: Keys of models with experts that say which layers have none.
_SPARSE_KEYS = frozenset({"decoder_sparse_step", "mlp_only_layers"})
_SOFT_CAPS = {
    "attn_logit_softcapping": "attention_softcap",
    "final_logit_softcapping": "final_softcap",
}
_GEMMA_KEYS = frozenset({"hidden_activation", "query_pre_attn_scalar"})
#: Keys that only some architectures have, read by rules of their own.
RULE_KEYS = {
    "gemma2": _GEMMA_KEYS,
    "gemma3_text": _GEMMA_KEYS | {"rope_local_base_freq"},
    "gpt_neox": frozenset({"rotary_pct", "rotary_emb_base"}),
    "qwen2_moe": _SPARSE_KEYS,
    "qwen3_moe": _SPARSE_KEYS,
}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", permuted=True),
    "mistral": Architecture("llama", windows="all", permuted=True),
    "mixtral": Architecture(
        "llama",
        keys={
            key: _MOE[key] for key in ("num_experts", "num_local_experts", "num_experts_per_tok")
        },
        windows="all",
        fixed={"expert_weights_normalised": True},
        permuted=True,
    ),
    "qwen2": Architecture("qwen2", windows="from"),
    "qwen3": Architecture("qwen3", windows="from"),
    "qwen2_moe": Architecture(
        "qwen2moe", keys={**_MOE, "shared_expert_intermediate_size": "shared_expert_size"}
    ),
    "qwen3_moe": Architecture(
        "qwen3moe", keys=_MOE, inert=frozenset({"max_window_layers"}), windows="all"
    ),
    "gemma2": Architecture(
        "gemma2",
        keys=_SOFT_CAPS,
        inert=frozenset({"hidden_act"}),
        windows="period",
        window_period=2,
        norm_shift=1.0,
    ),
    "gemma3_text": Architecture(
        "gemma3",
        keys=_SOFT_CAPS,
        inert=frozenset({"hidden_act"}),
        windows="period",
        window_period=6,
        norm_shift=1.0,
        cut_embeddings=True,
    ),
    "phi3": Architecture("phi3", windows="all"),
    "olmo2": Architecture("olmo2"),
    "gpt_neox": Architecture(
        "gptneox",
        keys={"layer_norm_eps": "layer_norm_eps", "use_parallel_residual": "parallel_residual"},
        grouped_qkv=True,
    ),
}
#: Other model types that are read as one of these.
ALIASES = {"gemma3": "gemma3_text", "qwen2_5": "qwen2"}


def known(model_type: str) -> Architecture | None:
    """Return what is known of a model type, None if nothing is."""
    return ARCHITECTURES.get(ALIASES.get(model_type, model_type))


def defaults(model_type: str) -> Mapping[str, Any]:
    """Return the values of keys that a config.json of this type may leave out."""
    return DEFAULTS.get(ALIASES.get(model_type, model_type), {})


def gguf_name(model_type: str) -> str:
    """Return what GGUF files call a model type; its own name where it is not known."""
    found = known(model_type)
    return found.gguf if found else model_type


def of_gguf(name: str) -> list[Architecture]:
    """Return the architectures that GGUF files call ``name``: they share its layout."""
    return [found for found in ARCHITECTURES.values() if found.gguf == name]
