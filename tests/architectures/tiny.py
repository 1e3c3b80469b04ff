"""Tiny models of every known architecture: two layers of random weights, the shipped tokenizer.

Weights are random but the head is scaled so that distributions are peaked, as those of real models
are: an error in a layer then shows in the probabilities.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.paths import TINY_CHAT

HIDDEN, HEADS, KV_HEADS, VOCABULARY, CONTEXT = 128, 4, 2, 1536, 256
#: Rows of a head: the fewest that vLLM computes on CPUs.
SIZE = 32
FEED_FORWARD, EXPERTS = 96, 4
_EXPERTS = {"num_experts_per_tok": 2}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LONG = {
    "type": "longrope",
    "short_factor": [1.0 + i / 10 for i in range(SIZE // 2)],
    "long_factor": [2.0 + i / 2 for i in range(SIZE // 2)],
}


@dataclass(frozen=True)
class Tiny:
    """One tiny model: what its config.json says beside what all have, and how it is built."""

    model_type: str
    class_name: str
    config: dict[str, Any] = field(default_factory=dict)
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    per_head_norm: bool = False
    whole_norm: bool = False
    qkv_bias: bool = False
    fused: bool = False
    experts: str = ""
    tied: bool = False
    layers: int = 2


_GEMMA = {
    "head_dim": SIZE,
    "query_pre_attn_scalar": SIZE,
    "hidden_activation": "gelu_pytorch_tanh",
    "sliding_window": 16,
}
_GEMMA_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_THETA = {"rope_theta": 50000.0}
_QWEN_MOE = {
    **_EXPERTS,
    "num_experts": EXPERTS,
    "moe_intermediate_size": 48,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "head_dim": SIZE,
    **_THETA,
}
TINY: dict[str, Tiny] = {
    "llama": Tiny("llama", "LlamaForCausalLM", _THETA),
    "llama-linear": Tiny(
        "llama", "LlamaForCausalLM", _THETA | {"rope_scaling": {"type": "linear", "factor": 4.0}}
    ),
    "llama-llama3": Tiny("llama", "LlamaForCausalLM", _THETA | {"rope_scaling": _LLAMA3}),
    "llama-dynamic": Tiny(
        "llama",
        "LlamaForCausalLM",
        _THETA
        | {"rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 32},
    ),
    "mistral": Tiny("mistral", "MistralForCausalLM", _THETA | {"sliding_window": None}),
    "mistral-window": Tiny("mistral", "MistralForCausalLM", _THETA | {"sliding_window": 16}),
    "mixtral": Tiny(
        "mixtral",
        "MixtralForCausalLM",
        _THETA | _EXPERTS | {"num_local_experts": EXPERTS, "sliding_window": None},
        experts="mixtral",
    ),
    "qwen2": Tiny(
        "qwen2",
        "Qwen2ForCausalLM",
        _THETA
        | {
            "use_sliding_window": False,
            "sliding_window": 32,
            "max_window_layers": 2,
            "vocab_size": 1600,
        },
        qkv_bias=True,
        tied=True,
    ),
    "qwen2-yarn": Tiny(
        "qwen2",
        "Qwen2ForCausalLM",
        _THETA | {"rope_scaling": _YARN, "vocab_size": 1600},
        qkv_bias=True,
    ),
    "qwen3": Tiny(
        "qwen3", "Qwen3ForCausalLM", _THETA | {"head_dim": SIZE}, per_head_norm=True, tied=True
    ),
    "qwen3-moe": Tiny(
        "qwen3_moe", "Qwen3MoeForCausalLM", _QWEN_MOE, per_head_norm=True, experts="qwen"
    ),
    "gemma2": Tiny(
        "gemma2",
        "Gemma2ForCausalLM",
        _GEMMA | {"attn_logit_softcapping": 20.0, "final_logit_softcapping": 30.0},
        norms=_GEMMA_NORMS,
        tied=True,
    ),
    "gemma3": Tiny(
        "gemma3_text",
        "Gemma3ForCausalLM",
        _GEMMA
        | {
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
        },
        norms=_GEMMA_NORMS,
        per_head_norm=True,
        tied=True,
        layers=6,
    ),
    "phi": Tiny(
        "phi3",
        "Phi3ForCausalLM",
        {"original_max_position_embeddings": CONTEXT, "sliding_window": None},
        fused=True,
    ),
    "phi-longrope": Tiny(
        "phi3",
        "Phi3ForCausalLM",
        {
            "original_max_position_embeddings": CONTEXT,
            "max_position_embeddings": 2 * CONTEXT,
            "sliding_window": None,
            "rope_scaling": _LONG,
        },
        fused=True,
    ),
    "olmo2": Tiny(
        "olmo2",
        "Olmo2ForCausalLM",
        _THETA,
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
        whole_norm=True,
    ),
    "gpt-neox": Tiny(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        {
            "rotary_pct": 0.25,
            "rotary_emb_base": 10000,
            "use_parallel_residual": True,
            "layer_norm_eps": 1e-5,
            "hidden_act": "gelu",
            "intermediate_size": 4 * HIDDEN,
        },
    ),
}


def write_tiny(name: str, folder: Path) -> Path:
    """Write a model of ``TINY`` as a Hugging Face folder; the same name gives the same weights."""
    tiny = TINY[name]
    folder.mkdir(parents=True)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY_CHAT / file, folder / file)
    if tiny.model_type == "qwen2":
        _as_qwen2_tokenizes(folder)
    config = {
        "architectures": [tiny.class_name],
        "model_type": tiny.model_type,
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": tiny.layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": tiny.tied,
        "bos_token_id": 1527,
        "eos_token_id": 1531,
        "pad_token_id": 1528,
        "torch_dtype": "float32",
        **tiny.config,
    }
    if tiny.model_type == "gpt_neox":
        for key in ("num_key_value_heads", "rms_norm_eps"):
            del config[key]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    generation = {"bos_token_id": 1527, "eos_token_id": 1531, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    rng = np.random.default_rng(sum(map(ord, name)))
    shapes = _neox() if tiny.model_type == "gpt_neox" else _llama_like(tiny)
    gemma = tiny.model_type.startswith("gemma")
    tensors = {key: _values(rng, key, shape, gemma=gemma) for key, shape in shapes}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _values(
    rng: np.random.Generator, name: str, shape: tuple[int, ...], *, gemma: bool
) -> np.ndarray:
    """Return random values; Gemma multiplies the embedding by √hidden and keeps norms minus one.

    Its embedding is small here, so that the layers have a part in the answer.
    """
    if "norm.weight" in name:
        last = gemma and name == "model.norm.weight"
        return ((1.7 if last else 0.9 - gemma) + 0.2 * rng.random(shape)).astype(np.float32)
    if name.endswith(".bias"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    is_outer = "embed" in name or "lm_head" in name
    deviation = (0.08 if gemma else 0.4) if is_outer else 1.5 / np.sqrt(shape[-1])
    return (deviation * rng.standard_normal(shape)).astype(np.float32)


def _as_qwen2_tokenizes(folder: Path) -> None:
    """Split text as Qwen 2 does: transformers does so for every model of this type.

    It also adds the token for unknown text that Qwen 2 has, unless the folder names another.
    """
    tokenizer, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    split = tokenizer.read_text(encoding="utf-8").replace(r"\\p{N}{1,3}", r"\\p{N}")
    tokenizer.write_text(split, encoding="utf-8")
    body = json.loads(config.read_text(encoding="utf-8")) | {"unk_token": "<|document_end|>"}
    config.write_text(json.dumps(body), encoding="utf-8")


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _llama_like(tiny: Tiny) -> Shapes:
    vocabulary = tiny.config.get("vocab_size", VOCABULARY)
    yield "model.embed_tokens.weight", (vocabulary, HIDDEN)
    for i in range(tiny.layers):
        at = f"model.layers.{i}"
        q, kv = HEADS * SIZE, KV_HEADS * SIZE
        for norm in tiny.norms:
            yield f"{at}.{norm}.weight", (HIDDEN,)
        if tiny.fused:
            yield f"{at}.self_attn.qkv_proj.weight", (q + 2 * kv, HIDDEN)
        else:
            for part, rows in (("q", q), ("k", kv), ("v", kv)):
                yield f"{at}.self_attn.{part}_proj.weight", (rows, HIDDEN)
                if tiny.qkv_bias:
                    yield f"{at}.self_attn.{part}_proj.bias", (rows,)
        yield f"{at}.self_attn.o_proj.weight", (HIDDEN, q)
        if tiny.per_head_norm or tiny.whole_norm:
            for part, rows in (("q", q), ("k", kv)):
                size = rows if tiny.whole_norm else SIZE
                yield f"{at}.self_attn.{part}_norm.weight", (size,)
        yield from _feed_forward(tiny, at)
    yield "model.norm.weight", (HIDDEN,)
    if not tiny.tied:
        yield "lm_head.weight", (vocabulary, HIDDEN)


def _feed_forward(tiny: Tiny, at: str) -> Shapes:
    if tiny.experts:
        inner = "block_sparse_moe" if tiny.experts == "mixtral" else "mlp"
        size = FEED_FORWARD if tiny.experts == "mixtral" else 48
        names = (
            ("w1", "w3", "w2")
            if tiny.experts == "mixtral"
            else ("gate_proj", "up_proj", "down_proj")
        )
        yield f"{at}.{inner}.gate.weight", (EXPERTS, HIDDEN)
        for x in range(EXPERTS):
            for name, shape in zip(
                names, ((size, HIDDEN), (size, HIDDEN), (HIDDEN, size)), strict=True
            ):
                yield f"{at}.{inner}.experts.{x}.{name}.weight", shape
    elif tiny.fused:
        yield f"{at}.mlp.gate_up_proj.weight", (2 * FEED_FORWARD, HIDDEN)
        yield f"{at}.mlp.down_proj.weight", (HIDDEN, FEED_FORWARD)
    else:
        yield f"{at}.mlp.gate_proj.weight", (FEED_FORWARD, HIDDEN)
        yield f"{at}.mlp.up_proj.weight", (FEED_FORWARD, HIDDEN)
        yield f"{at}.mlp.down_proj.weight", (HIDDEN, FEED_FORWARD)


def _neox() -> Shapes:
    yield "gpt_neox.embed_in.weight", (VOCABULARY, HIDDEN)
    for i in range(2):
        at = f"gpt_neox.layers.{i}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{at}.{norm}.weight", (HIDDEN,)
            yield f"{at}.{norm}.bias", (HIDDEN,)
        for name, shape in (
            ("attention.query_key_value", (3 * HIDDEN, HIDDEN)),
            ("attention.dense", (HIDDEN, HIDDEN)),
            ("mlp.dense_h_to_4h", (4 * HIDDEN, HIDDEN)),
            ("mlp.dense_4h_to_h", (HIDDEN, 4 * HIDDEN)),
        ):
            yield f"{at}.{name}.weight", shape
            yield f"{at}.{name}.bias", (shape[0],)
    yield "gpt_neox.final_layer_norm.weight", (HIDDEN,)
    yield "gpt_neox.final_layer_norm.bias", (HIDDEN,)
    yield "embed_out.weight", (VOCABULARY, HIDDEN)
