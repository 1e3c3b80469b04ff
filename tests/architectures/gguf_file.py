"""Tiny models as GGUF files: what llama.cpp's converter writes, said once more and by itself.

It shares no rule with the code that is tested, except the names of tensors in the gguf library.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "mixtral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "olmo2": gguf.MODEL_ARCH.OLMO2,
    "gpt_neox": gguf.MODEL_ARCH.GPTNEOX,
}
Tensors = dict[str, np.ndarray]


def write_gguf(hf: Path, path: Path) -> Path:
    """Write the model in a Hugging Face folder as a GGUF file with f32 tensors."""
    config = json.loads((hf / "config.json").read_text())
    arch = _ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_name(path.stem)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_parameters(writer, config)
    _add_tokenizer(writer, hf, config)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    tensors = _stacked(load_file(hf / "model.safetensors"))
    for name, values in tensors.items():
        mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert mapped is not None, name
        changed = _changed(name, mapped, values, config)
        writer.add_tensor(mapped, np.ascontiguousarray(changed, np.float32))
    for name, factors in _factors(config).items():
        writer.add_tensor(f"{name}.weight", np.asarray(factors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_parameters(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads", heads))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(int(size * config.get("rotary_pct", 1.0)))
    writer.add_rope_freq_base(config.get("rope_theta", config.get("rotary_emb_base", 10000.0)))
    writer.add_vocab_size(config["vocab_size"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if "layer_norm_eps" in config:
        writer.add_layer_norm_eps(config["layer_norm_eps"])
        writer.add_parallel_residual(config["use_parallel_residual"])
    if "rope_local_base_freq" in config:
        writer.add_rope_freq_base_swa(config["rope_local_base_freq"])
    if config["model_type"].startswith("gemma"):
        writer.add_sliding_window(config["sliding_window"])
    if "attn_logit_softcapping" in config:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if experts := config.get("num_local_experts", config.get("num_experts")):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    _add_scaling(writer, config)


def _add_scaling(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    elif kind == "longrope":
        trained = config["original_max_position_embeddings"]
        factor = config["max_position_embeddings"] / trained
        writer.add_rope_scaling_orig_ctx_len(trained)
        writer.add_rope_scaling_attn_factors(np.sqrt(1 + np.log(factor) / np.log(trained)))


def _factors(config: dict[str, Any]) -> dict[str, list[float]]:
    """Return the factors that are written as tensors."""
    scaling = config.get("rope_scaling") or {}
    if scaling.get("type") == "longrope":
        return {f"rope_factors_{kind}": scaling[f"{kind}_factor"] for kind in ("short", "long")}
    if scaling.get("rope_type") != "llama3":
        return {}
    size = config["hidden_size"] // config["num_attention_heads"]
    steps = np.arange(0, size, 2) / size
    wavelengths = 2 * np.pi * config["rope_theta"] ** steps
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] / wavelengths
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return {"rope_freqs": list(1 / ((1 - smooth) / scaling["factor"] + smooth))}


def _add_tokenizer(writer: gguf.GGUFWriter, hf: Path, config: dict[str, Any]) -> None:
    body = json.loads((hf / "tokenizer.json").read_text(encoding="utf-8"))
    size = config["vocab_size"]
    tokens = [f"[PAD{i}]" for i in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for token, i in body["model"]["vocab"].items():
        tokens[i], types[i] = token, gguf.TokenType.NORMAL
    for added in body["added_tokens"]:
        tokens[added["id"]] = added["content"]
        control = added["special"]
        types[added["id"]] = gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if config["model_type"] == "qwen2" else "llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in body["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(True)
    writer.add_chat_template((hf / "chat_template.jinja").read_text(encoding="utf-8"))


def _stacked(tensors: Tensors) -> Tensors:
    """Put the matrices of all experts of a layer into one tensor."""
    found: Tensors = {}
    parts: dict[str, list[np.ndarray]] = {}
    for name in sorted(tensors, key=_expert_number):
        if ".experts." not in name:
            found[name] = tensors[name]
            continue
        before, _, rest = name.partition(".experts.")
        inner = rest.partition(".")[2]
        if inner.startswith("w"):
            before = before.removeprefix("model.").replace("block_sparse_moe", "feed_forward")
        parts.setdefault(f"{before}.experts.{inner}", []).append(tensors[name])
    return found | {name: np.stack(matrices) for name, matrices in parts.items()}


def _expert_number(name: str) -> int:
    number = name.partition(".experts.")[2].partition(".")[0]
    return int(number) if number else -1


def _changed(name: str, mapped: str, values: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Return what the converter makes of a tensor of this architecture."""
    kind, heads = config["model_type"], config["num_attention_heads"]
    if kind in ("llama", "mistral", "mixtral") and (".attn_q." in mapped or ".attn_k." in mapped):
        count = heads if ".attn_q." in mapped else config["num_key_value_heads"]
        halves = values.reshape(count, 2, -1, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)
    if kind.startswith("gemma") and name.endswith("norm.weight"):
        return values + 1
    if kind == "gpt_neox" and ".attn_qkv." in mapped:
        by_head = values.reshape(heads, 3, -1, *values.shape[1:])
        return by_head.swapaxes(0, 1).reshape(values.shape)
    return values
