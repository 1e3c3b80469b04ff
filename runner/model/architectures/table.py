"""The architectures that are known, by Hugging Face's ``model_type``.

A key of config.json that is in none of these tables is named by the ``config`` stage as not
compared. Defaults are those of the configuration classes of transformers 5.19; what a GGUF file
leaves out has llama.cpp's defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: Which layers see only a window: none, all of them, those from ``max_window_layers`` on, or all
#: except every n-th one.
Windows = Literal["none", "all", "from", "period"]


@dataclass(frozen=True)
class Architecture:
    """What is special about one architecture."""

    gguf: str
    """Its name in GGUF files."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of keys that its config.json may leave out."""
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
#: Keys that change no number of a forward pass: training, output formats, names, other files.
INERT = frozenset(
    {
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "attn_implementation",
        "auto_map",
        "cache_implementation",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "dtype",
        "embd_pdrop",
        "finetuning_task",
        "gradient_checkpointing",
        "hidden_dropout",
        "hidden_dropout_prob",
        "id2label",
        "initializer_range",
        "is_decoder",
        "is_encoder_decoder",
        "is_llama_config",
        "label2id",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "pad_token_id",
        "pretraining_tp",
        "problem_type",
        "quantization_config",
        "resid_pdrop",
        "return_dict",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "task_specific_params",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)
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

_MOE = {
    "num_experts": "experts",
    "num_local_experts": "experts",
    "num_experts_per_tok": "experts_used",
    "moe_intermediate_size": "expert_feed_forward_size",
    "norm_topk_prob": "expert_weights_normalised",
}
#: Keys of models with experts that say which layers have none.
_SPARSE_KEYS = frozenset({"decoder_sparse_step", "mlp_only_layers"})
_SOFT_CAPS = {
    "attn_logit_softcapping": "attention_softcap",
    "final_logit_softcapping": "final_softcap",
}
_QWEN = {"rms_norm_eps": 1e-6, "use_sliding_window": False, "max_window_layers": 28}
_GEMMA = {
    "tie_word_embeddings": True,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
    "num_key_value_heads": 4,
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
    "llama": Architecture("llama", {"rms_norm_eps": 1e-6}, permuted=True),
    "mistral": Architecture(
        "llama",
        {"rms_norm_eps": 1e-6, "sliding_window": 4096, "num_key_value_heads": 8},
        windows="all",
        permuted=True,
    ),
    "mixtral": Architecture(
        "llama",
        {
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
            "num_key_value_heads": 8,
            "num_experts_per_tok": 2,
            "num_local_experts": 8,
        },
        keys={key: _MOE[key] for key in ("num_local_experts", "num_experts_per_tok")},
        windows="all",
        fixed={"expert_weights_normalised": True},
        permuted=True,
    ),
    "qwen2": Architecture("qwen2", _QWEN | {"sliding_window": 4096}, windows="from"),
    "qwen3": Architecture(
        "qwen3", _QWEN | {"sliding_window": 4096, "head_dim": 128}, windows="from"
    ),
    "qwen2_moe": Architecture(
        "qwen2moe",
        {"rms_norm_eps": 1e-6, "num_experts_per_tok": 4, "norm_topk_prob": False},
        keys={**_MOE, "shared_expert_intermediate_size": "shared_expert_size"},
    ),
    "qwen3_moe": Architecture(
        "qwen3moe",
        {
            "rms_norm_eps": 1e-6,
            "use_sliding_window": False,
            "sliding_window": 4096,
            "num_key_value_heads": 4,
            "num_experts_per_tok": 8,
            "norm_topk_prob": False,
        },
        keys=_MOE,
        inert=frozenset({"max_window_layers"}),
        windows="all",
    ),
    "gemma2": Architecture(
        "gemma2",
        _GEMMA | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        keys=_SOFT_CAPS,
        inert=frozenset({"hidden_act"}),
        windows="period",
        window_period=2,
        norm_shift=1.0,
    ),
    "gemma3_text": Architecture(
        "gemma3",
        _GEMMA | {"rope_theta": 1e6, "rope_local_base_freq": 1e4},
        keys=_SOFT_CAPS,
        inert=frozenset({"hidden_act"}),
        windows="period",
        window_period=6,
        norm_shift=1.0,
        cut_embeddings=True,
    ),
    "phi3": Architecture("phi3", {"rms_norm_eps": 1e-5}, windows="all"),
    "olmo2": Architecture("olmo2", {"rms_norm_eps": 1e-5}),
    "gpt_neox": Architecture(
        "gptneox",
        {
            "layer_norm_eps": 1e-5,
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.25,
            "hidden_act": "gelu",
            "use_parallel_residual": True,
        },
        keys={"layer_norm_eps": "layer_norm_eps", "use_parallel_residual": "parallel_residual"},
        grouped_qkv=True,
    ),
}
#: Other model types that are read as one of these.
ALIASES = {"gemma3": "gemma3_text", "qwen2_5": "qwen2"}


def known(model_type: str) -> Architecture | None:
    """Return what is known of a model type, None if nothing is."""
    return ARCHITECTURES.get(ALIASES.get(model_type, model_type))


def gguf_name(model_type: str) -> str:
    """Return what GGUF files call a model type; its own name where it is not known."""
    found = known(model_type)
    return found.gguf if found else model_type


def of_gguf(name: str) -> list[Architecture]:
    """Return the architectures that GGUF files call ``name``: they share its layout."""
    return [found for found in ARCHITECTURES.values() if found.gguf == name]
