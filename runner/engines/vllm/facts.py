"""What vLLM says of a loaded model, in the names in which facts are compared."""

import hashlib
from pathlib import Path
from typing import Any

from runner.engines.base import Loaded
from runner.engines.shared.sampling_defaults import sampling_defaults
from runner.engines.shared.tokenizer_json import before_merging
from runner.engines.shared.tokenizer_tables import loaded_tables
from runner.model.architectures.hf_config import config_facts


def end_ids(engine: Any) -> list[int]:
    """Return the ids at which a request ends: the tokenizer's, and the generation config's."""
    stated = engine.model_config.try_get_generation_config().get("eos_token_id")
    ids = set(stated) if isinstance(stated, (list, tuple)) else {stated}
    ids.add(engine.renderer.get_eos_token_id())
    return sorted(ids - {None})


def loaded_facts(
    engine: Any, tokenizer: Any, folder: Path, loaded: Loaded, eos_ids: list[int]
) -> dict[str, Any]:
    """Return facts by name; those that vLLM does not state are left out."""
    stated = engine.model_config
    config, parallel = stated.hf_text_config, engine.vllm_config.parallel_config
    template = tokenizer.chat_template
    vocabulary = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    generation = stated.try_get_generation_config()
    sampled = {**stated.get_diff_sampling_param(), "do_sample": generation.get("do_sample")}
    return {
        **config_facts(config.to_dict()),
        "vocab_size": stated.get_vocab_size(),
        "bos_id": engine.renderer.get_bos_token_id(),
        "eos_ids": eos_ids,
        "add_bos": tokenizer("x").input_ids[:1] == [tokenizer.bos_token_id],
        "context_length": stated.max_model_len,
        "layers": stated.get_num_layers(parallel),
        "heads": stated.get_num_attention_heads(parallel),
        "kv_heads": stated.get_num_kv_heads(parallel),
        "compute_dtype": loaded.compute_dtype,
        "kv_dtype": loaded.kv_dtype,
        "tokenizer_digest": hashlib.sha256("\0".join(vocabulary).encode()).hexdigest(),
        "template_digest": hashlib.sha256(template.encode()).hexdigest() if template else None,
        "model_name": folder.name,
        "sampling_defaults": sampling_defaults(sampled),
        **before_merging(tokenizer),
        **loaded_tables(tokenizer),
    }
