"""What transformers says of a loaded model, in the names in which facts are compared."""

import hashlib
from pathlib import Path
from typing import Any

from runner.engines.base import Loaded
from runner.engines.shared.names import architecture
from runner.engines.shared.sampling_defaults import sampling_defaults
from runner.engines.shared.tokenizer_json import before_merging


def loaded_facts(
    model: Any, tokenizer: Any, folder: Path, loaded: Loaded, eos_ids: list[int]
) -> dict[str, Any]:
    """Return facts by name; those that transformers does not state are left out."""
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    template = tokenizer.chat_template
    vocabulary = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return {
        "architecture": architecture(config.model_type),
        "vocab_size": model.get_output_embeddings().weight.shape[0],
        "bos_id": tokenizer.bos_token_id,
        "eos_ids": eos_ids,
        "add_bos": tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id],
        "rope_theta": float(rope["rope_theta"]) if "rope_theta" in rope else None,
        "rms_eps": getattr(config, "rms_norm_eps", None),
        "context_length": config.max_position_embeddings,
        "sliding_window": getattr(config, "sliding_window", None),
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kv_heads": getattr(config, "num_key_value_heads", config.num_attention_heads),
        "compute_dtype": loaded.compute_dtype,
        "kv_dtype": loaded.kv_dtype,
        "tokenizer_digest": hashlib.sha256("\0".join(vocabulary).encode()).hexdigest(),
        "template_digest": hashlib.sha256(template.encode()).hexdigest() if template else None,
        "model_name": folder.name,
        "sampling_defaults": sampling_defaults(model.generation_config.to_dict()),
        **before_merging(tokenizer),
    }
