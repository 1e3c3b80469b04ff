"""Write the trained network as an HF model directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conversation import BOS, DOCUMENT_END, TURN_END
from network import Network
from safetensors.torch import save_file
from tokenizer import save_tokenizer, token_id
from tokenizers import Tokenizer


def save_model(network: Network, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights, configuration and tokenizer; the chat template is there as a source."""
    arch = network.arch
    end_ids = [token_id(tokenizer, token) for token in (DOCUMENT_END, TURN_END)]
    ids: dict[str, Any] = {
        "bos_token_id": token_id(tokenizer, BOS),
        "eos_token_id": end_ids,
        "pad_token_id": end_ids[0],
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": arch.vocabulary,
        "hidden_size": arch.hidden,
        "intermediate_size": arch.feed_forward,
        "num_hidden_layers": arch.layers,
        "num_attention_heads": arch.heads,
        "num_key_value_heads": arch.kv_heads,
        "head_dim": arch.head_size,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": arch.context,
        "rms_norm_eps": arch.norm_epsilon,
        "rope_theta": arch.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": arch.rope_theta},
        "tie_word_embeddings": False,
        "dtype": "float32",
        "torch_dtype": "float32",
        **ids,
    }
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {**ids, "do_sample": False})
    save_tokenizer(tokenizer, folder, arch.context)
    weights = folder / "model.safetensors"
    save_file(network.state_for_export(), weights, {"format": "pt"})
    weights.chmod(0o644)  # it is created readable by its owner alone


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
