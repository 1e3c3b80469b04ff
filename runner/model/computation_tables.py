"""What a config.json means, as data: keys without effect, other spellings, and defaults.

The defaults are those of transformers, which reads a folder for the reference; a test compares
them with its classes. A change here that gives the shipped model another digest makes its
references useless: a test says so.
"""

from typing import Any

#: Keys known not to change the numbers of a forward pass. Every other key is part of the function.
WITHOUT_EFFECT = frozenset(
    (
        # Where the file comes from, and which program wrote it.
        *("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "auto_map"),
        *("transformers.js_config", "unsloth_version", "unsloth_fixed", "is_llama_config"),
        # `model_type` names the computation; this one names a class of one library.
        "architectures",
        # How the numbers are stored or served: the reference computes at fp32.
        *("torch_dtype", "dtype", "use_bfloat16", "use_cache", "pretraining_tp"),
        *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
        *("chunk_size_feed_forward", "return_dict", "output_attentions", "output_hidden_states"),
        *("output_router_logits", "keys_to_ignore_at_inference", "gradient_checkpointing"),
        *("use_return_dict", "torchscript", "tie_encoder_decoder", "_experts_implementation"),
        # Training.
        *("attention_dropout", "attn_pdrop", "resid_pdrop", "embd_pdrop", "hidden_dropout"),
        *("residual_dropout", "embedding_dropout", "classifier_dropout", "initializer_range"),
        *("initializer_factor", "router_aux_loss_coef", "router_jitter_noise"),
        # Tokens: other stages compare them; their embeddings are weights.
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id"),
        *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
        *("tokenizer_class", "prefix", "suppress_tokens", "begin_suppress_tokens"),
        # Heads for other tasks than text, and the sampling that old files kept here.
        *("id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
        *("task_specific_params", "summary_type", "summary_use_proj", "summary_activation"),
        *("summary_proj_to_labels", "summary_first_dropout", "cross_attention_hidden_size"),
        *("do_sample", "top_p", "typical_p", "repetition_penalty", "length_penalty", "max_length"),
        *("min_length", "num_beams", "num_beam_groups", "diversity_penalty", "early_stopping"),
        *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids"),
        *(
            "num_return_sequences",
            "output_scores",
            "return_dict_in_generate",
            "remove_invalid_values",
        ),
        *("exponential_decay_length_penalty", "tf_legacy_loss", "pruned_heads"),
        # A model of several kinds of input has these beside its `text_config`.
        *("vision_config", "audio_config", "mm_tokens_per_image", "image_token_index"),
        *("boi_token_index", "eoi_token_index", "image_token_id", "video_token_id"),
        *("vision_start_token_id", "vision_end_token_id", "boi_token_id", "eoi_token_id"),
    )
)

#: Other name → the name used here, where both mean the same in every architecture.
OTHER_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_positions": "max_position_embeddings",
    "activation_function": "hidden_act",
    "hidden_activation": "hidden_act",
    "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
    "rotary_pct": "partial_rotary_factor",
    "num_local_experts": "num_experts",
    "_sliding_window_pattern": "sliding_window_pattern",
}

#: Other name of an activation function → its name here.
ACTIVATIONS = {"swish": "silu"}

_LLAMA: dict[str, Any] = {
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "rope_theta": 10000,
    "attention_bias": False,
}
_WINDOW = {"use_sliding_window": False, "sliding_window": 4096}
_NO_BIAS = {name: value for name, value in _LLAMA.items() if name != "attention_bias"}
_MISTRAL = {**_NO_BIAS, "num_key_value_heads": 8}
_ROUTED = {
    **{"decoder_sparse_step": 1, "norm_topk_prob": False, "mlp_only_layers": []},
}
_GEMMA = {
    **_LLAMA,
    **{"head_dim": 256, "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True},
}
_GEMMA_2 = {
    **{**_GEMMA, "num_key_value_heads": 4, "query_pre_attn_scalar": 256},
    **{"sliding_window": 4096, "final_logit_softcapping": 30, "attn_logit_softcapping": 50},
}
_LAYER_NORM = {name: value for name, value in _NO_BIAS.items() if name != "rms_norm_eps"}

#: Keys that most files leave out, with the value that says nothing.
UNLESS_SET = {"is_decoder": False, "is_encoder_decoder": False, "add_cross_attention": False}

#: Model type → the value of a key that its file leaves out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "mlp_bias": False},
    "mistral": {**_MISTRAL, "sliding_window": 4096},
    "mixtral": {
        **{**_MISTRAL, "rms_norm_eps": 1e-5, "rope_theta": 1000000, "sliding_window": None},
        **{"num_experts": 8, "num_experts_per_tok": 2},
    },
    "qwen2": {**_NO_BIAS, **_WINDOW, "max_window_layers": 28, "num_key_value_heads": 32},
    "qwen2_moe": {
        **{**_NO_BIAS, **_WINDOW, **_ROUTED, "max_window_layers": 28, "num_key_value_heads": 16},
        **{"num_experts": 60, "num_experts_per_tok": 4, "qkv_bias": True},
        **{"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
    },
    "qwen3": {
        **{**_LLAMA, **_WINDOW, "max_window_layers": 28, "num_key_value_heads": 32},
        **{"head_dim": 128},
    },
    "qwen3_moe": {
        **{**_LLAMA, **_WINDOW, **_ROUTED, "num_key_value_heads": 4},
        **{"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    },
    "gemma": {**_GEMMA, "num_key_value_heads": 16},
    "gemma2": _GEMMA_2,
    "gemma3_text": {
        **{**_GEMMA_2, "final_logit_softcapping": None, "attn_logit_softcapping": None},
        **{"rope_theta": 1000000, "rope_local_base_freq": 10000, "sliding_window_pattern": 6},
        "use_bidirectional_attention": False,
    },
    "phi3": {
        **{**_NO_BIAS, "rms_norm_eps": 1e-5, "sliding_window": None},
        "original_max_position_embeddings": 4096,
    },
    "olmo2": {**_LLAMA, "rms_norm_eps": 1e-5},
    "gpt_neox": {
        **{**_LAYER_NORM, "hidden_act": "gelu", "layer_norm_eps": 1e-5},
        **{"partial_rotary_factor": 0.25, "use_parallel_residual": True, "attention_bias": True},
    },
    "phi": {
        **{**_LAYER_NORM, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
        **{"partial_rotary_factor": 0.5, "qk_layernorm": False},
    },
    "granite": {
        **{**_LLAMA, "mlp_bias": False, "embedding_multiplier": 1, "logits_scaling": 1},
        **{"residual_multiplier": 1, "attention_multiplier": 1},
    },
}

#: Model type → which layers have the window, where the file does not list them: all of them, those
#: from `max_window_layers` on (or, `below`, every second before it), every second one, or all but
#: each n-th.
WINDOWED_LAYERS = {
    **dict.fromkeys(("mistral", "mixtral", "phi3", "qwen3_moe", "starcoder2"), "all"),
    **{"qwen2": "upper", "qwen3": "upper", "qwen2_moe": "below"},
    **{"gemma2": "second", "gemma3_text": "pattern"},
}

#: Type of rope scaling → what it computes with where the file leaves it out.
ROPE_DEFAULTS: dict[str, dict[str, Any]] = {
    "yarn": {"beta_fast": 32, "beta_slow": 1, "truncate": True},
}
#: Types of rope scaling that depend on the context length of before scaling.
FROM_ORIGINAL_LENGTH = frozenset(("yarn", "longrope", "llama3"))
