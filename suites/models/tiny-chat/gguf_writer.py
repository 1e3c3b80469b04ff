"""Write a small HF Llama directory as a GGUF file of a given number format.

A full converter is not needed for one architecture, and this one depends on numpy and gguf
alone and says in one page what the file holds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

FORMATS: Final = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
"""For each type: the format of matrices, and the file type that the metadata gives."""

MODEL_NAME: Final = "tiny-chat"
PRE_TOKENIZER: Final = "llama-bpe"

_OUTER_TENSORS: Final = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_BLOCK_TENSORS: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

Array = NDArray[np.float32]


def write_gguf(model: Path, path: Path, kind: str) -> None:
    """Write the model in the HF directory ``model`` to ``path``, as a type of ``FORMATS``.

    One-dimensional tensors (norms) are kept in f32 in every type, as engines expect.
    """
    config = _read_json(model / "config.json")
    quantization, file_type = FORMATS[kind]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(MODEL_NAME)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_architecture(writer, config)
    _add_tokenizer(writer, model, config)
    for name, tensor in _tensors(model, config).items():
        if tensor.ndim == 1 or kind == "f32":
            writer.add_tensor(name, tensor)
        else:
            data = gguf.quants.quantize(tensor, quantization)
            writer.add_tensor(name, data, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _add_architecture(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: gguf.GGUFWriter, model: Path, config: dict[str, Any]) -> None:
    """Add vocabulary, merges, special ids and the chat template.

    The first id of ``eos_token_id`` ends a document (EOS), the second ends a turn (EOT).
    """
    tokenizer = _read_json(model / "tokenizer.json")
    tokens = {token_id: token for token, token_id in tokenizer["model"]["vocab"].items()}
    types = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        control = added["special"]
        types[added["id"]] = gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED
    ids = range(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list([tokens[i] for i in ids])
    writer.add_token_types([types[i] for i in ids])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    document_end, turn_end = config["eos_token_id"]
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(document_end)
    writer.add_eot_token_id(turn_end)
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_add_bos_token(True)
    writer.add_chat_template((model / "chat_template.jinja").read_text(encoding="utf-8"))


def _tensors(model: Path, config: dict[str, Any]) -> dict[str, Array]:
    """Read all weights under their GGUF names, in the order of layers."""
    weights: dict[str, Array] = load_file(model / "model.safetensors")
    tensors = {_OUTER_TENSORS[name]: weights[name] for name in _OUTER_TENSORS if name in weights}
    for layer in range(config["num_hidden_layers"]):
        for source, target in _BLOCK_TENSORS.items():
            tensor = weights[f"model.layers.{layer}.{source}.weight"]
            if target == "attn_q":
                tensor = _interleave(tensor, config["num_attention_heads"])
            elif target == "attn_k":
                tensor = _interleave(tensor, config["num_key_value_heads"])
            tensors[f"blk.{layer}.{target}.weight"] = tensor
    return {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}


def _interleave(weight: Array, heads: int) -> Array:
    """Reorder the rows of each head from rotary halves (HF) to rotary pairs (GGUF)."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
