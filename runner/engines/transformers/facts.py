"""What transformers says of a loaded model, in the names in which facts are compared."""

import hashlib
from pathlib import Path
from typing import Any

from runner.engines.base import Loaded
from runner.engines.shared.sampling_defaults import sampling_defaults
from runner.engines.shared.tokenizer_json import before_merging
from runner.engines.shared.tokenizer_tables import loaded_tables
from runner.model.architectures.hf_config import config_facts


def loaded_facts(
    model: Any, tokenizer: Any, folder: Path, loaded: Loaded, eos_ids: list[int]
) -> dict[str, Any]:
    """Return facts by name; those that transformers does not state are left out."""
    config = model.config.get_text_config()
    template = tokenizer.chat_template
    vocabulary = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    stated = config_facts(config.to_dict())
    if config._attn_implementation != "eager" and stated.get("attention_softcap") is not None:
        # Only the plain implementation applies it.
        stated["attention_softcap"] = None
    head, embeddings = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    return {
        **stated,
        "vocab_size": head.shape[0],
        "tied_head": head.data_ptr() == embeddings.data_ptr(),
        "bos_id": tokenizer.bos_token_id,
        "eos_ids": eos_ids,
        "add_bos": tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id],
        "compute_dtype": loaded.compute_dtype,
        "kv_dtype": loaded.kv_dtype,
        "tokenizer_digest": hashlib.sha256("\0".join(vocabulary).encode()).hexdigest(),
        "template_digest": hashlib.sha256(template.encode()).hexdigest() if template else None,
        "model_name": folder.name,
        "sampling_defaults": sampling_defaults(model.generation_config.to_dict()),
        **before_merging(tokenizer),
        **loaded_tables(tokenizer),
    }
