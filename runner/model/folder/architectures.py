"""The architectures of which a GGUF alone becomes a model folder, as data.

The other direction of ``convert_hf_to_gguf.py``: which ``model_type`` a GGUF's architecture is,
what Hugging Face calls its tensors, and which keys of config.json its metadata states. The layout
of the values (the order of q and k rows, shifted norms) is undone where the tensors are read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
_LLAMA = _ATTENTION | {
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_MIXTRAL = _ATTENTION | {
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
    "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
    "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
}
_QWEN_MOE = _LLAMA | {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GEMMA2 = _LLAMA | _POST_NORMS | {"ffn_norm": "pre_feedforward_layernorm"}
_PHI3 = _LLAMA | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
_GPTNEOX = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_qkv": "attention.query_key_value",
    "attn_output": "attention.dense",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}
_OUTER = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_GPTNEOX_OUTER = {
    "token_embd": "gpt_neox.embed_in",
    "output_norm": "gpt_neox.final_layer_norm",
    "output": "embed_out",
}
_ATTENTION_BIAS = {"attention_bias": "blk.0.attn_q.bias"}
_BIASES = _ATTENTION_BIAS | {"mlp_bias": "blk.0.ffn_up.bias"}
_EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_weights_norm": "norm_topk_prob",
}
_GELU = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
_BLOCK = re.compile(r"blk\.(\d+)\.([a-z0-9_]+)(?:\.(weight|bias))?")


@dataclass(frozen=True)
class Architecture:
    """What Hugging Face calls the parts of one architecture."""

    model_type: str
    class_name: str
    blocks: Mapping[str, str] = field(default_factory=lambda: _LLAMA)
    """Tensor of a block in GGUF → in Hugging Face; ``{}`` is the number of an expert."""
    outer: Mapping[str, str] = field(default_factory=lambda: _OUTER)
    prefix: str = "model.layers"
    keys: Mapping[str, str] = field(default_factory=dict)
    """Key of the metadata, below the architecture's name → key of config.json."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Keys of config.json that no metadata state and that are equal in every such model."""
    biases: Mapping[str, str] = field(default_factory=lambda: _ATTENTION_BIAS)
    """Key of config.json → the tensor that exists if it is true."""

    def hugging_face_name(self, name: str) -> str | None:
        """Return the name of a GGUF's tensor; ``{}`` in it is the number of an expert."""
        block = _BLOCK.fullmatch(name)
        if block is None:
            inner, _, end = name.partition(".")
            found = self.outer.get(inner)
            return None if found is None else f"{found}.{end or 'weight'}"
        layer, inner, end = block.groups()
        found = self.blocks.get(inner)
        return None if found is None else f"{self.prefix}.{layer}.{found}.{end or 'weight'}"


#: GGUF's name → architecture. A llama with experts is a Mixtral.
ARCHITECTURES = {
    "llama": Architecture(
        "llama", "LlamaForCausalLM", constants={"hidden_act": "silu"}, biases=_BIASES
    ),
    "mixtral": Architecture(
        "mixtral",
        "MixtralForCausalLM",
        _MIXTRAL,
        keys={"expert_count": "num_local_experts", "expert_used_count": "num_experts_per_tok"},
        constants={"hidden_act": "silu", "sliding_window": None, "output_router_logits": False},
        biases={},
    ),
    "qwen2": Architecture(
        "qwen2",
        "Qwen2ForCausalLM",
        constants={"hidden_act": "silu", "use_sliding_window": False, "sliding_window": None},
        biases={},
    ),
    "qwen2moe": Architecture(
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        _QWEN_MOE,
        keys=_EXPERTS | {"expert_shared_feed_forward_length": "shared_expert_intermediate_size"},
        constants={
            "hidden_act": "silu",
            "use_sliding_window": False,
            "norm_topk_prob": False,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "qkv_bias": True,
        },
        biases={},
    ),
    "qwen3": Architecture(
        "qwen3",
        "Qwen3ForCausalLM",
        constants={"hidden_act": "silu", "use_sliding_window": False, "sliding_window": None},
    ),
    "qwen3moe": Architecture(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        _QWEN_MOE,
        keys=_EXPERTS,
        constants={
            "hidden_act": "silu",
            "use_sliding_window": False,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
    "gemma2": Architecture(
        "gemma2",
        "Gemma2ForCausalLM",
        _GEMMA2,
        keys={
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            "attention.sliding_window": "sliding_window",
        },
        constants=_GELU,
    ),
    "gemma3": Architecture(
        "gemma3_text",
        "Gemma3ForCausalLM",
        _GEMMA2,
        keys={
            "final_logit_softcapping": "final_logit_softcapping",
            "attention.sliding_window": "sliding_window",
        },
        constants=_GELU | {"attn_logit_softcapping": None, "final_logit_softcapping": None},
    ),
    "phi3": Architecture(
        "phi3",
        "Phi3ForCausalLM",
        _PHI3,
        keys={
            "attention.sliding_window": "sliding_window",
            "rope.scaling.original_context_length": "original_max_position_embeddings",
        },
        constants={"hidden_act": "silu", "sliding_window": None},
    ),
    "olmo2": Architecture(
        "olmo2", "Olmo2ForCausalLM", _LLAMA | _POST_NORMS, constants={"hidden_act": "silu"}
    ),
    "gptneox": Architecture(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        _GPTNEOX,
        _GPTNEOX_OUTER,
        "gpt_neox.layers",
        keys={"attention.layer_norm_epsilon": "layer_norm_eps"},
        constants={"hidden_act": "gelu", "attention_bias": True},
        biases={},
    ),
}


def architecture_of(name: str, experts: Any) -> Architecture | None:
    """Return the architecture of a GGUF with this name; None if it is not known here."""
    return ARCHITECTURES.get("mixtral" if name == "llama" and experts else name)
