"""What mlx-lm says of a loaded model, in the names in which facts are compared."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from runner.engines.base import Loaded
from runner.engines.mlx.built import built_facts
from runner.engines.shared.names import dtype_name
from runner.engines.shared.tokenizer_json import before_merging
from runner.engines.shared.tokenizer_tables import loaded_tables
from runner.model.architectures.table import gguf_name

#: Fact → what a model's arguments call it; a model that lacks one does not state it.
_ARGUMENTS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "hidden_size": "hidden_size",
    "feed_forward_size": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "experts": "num_experts",
    "experts_used": "num_experts_per_tok",
    "expert_feed_forward_size": "moe_intermediate_size",
    "expert_weights_normalised": "norm_topk_prob",
    "attention_softcap": "attn_logit_softcapping",
    "final_softcap": "final_logit_softcapping",
    "parallel_residual": "use_parallel_residual",
    "layer_norm_eps": "layer_norm_eps",
}


def loaded_facts(
    model: Any, tokenizer: Any, folder: Path, loaded: Loaded, eos_ids: list[int], *, add_bos: bool
) -> dict[str, Any]:
    """Return facts by name; those that mlx-lm does not state are left out."""
    stated = model.args
    template = tokenizer.chat_template
    # The wrapper itself has a length in newer versions only.
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer._tokenizer))))
    facts: dict[str, Any] = {
        "architecture": gguf_name(stated.model_type),
        "bos_id": tokenizer.bos_token_id,
        "eos_ids": eos_ids,
        "add_bos": add_bos,
        "layers": len(model.layers),
        "compute_dtype": loaded.compute_dtype,
        "kv_dtype": loaded.kv_dtype,
        "tokenizer_digest": hashlib.sha256("\0".join(pieces).encode()).hexdigest(),
        "template_digest": hashlib.sha256(template.encode()).hexdigest()
        if isinstance(template, str)
        else None,
        "model_name": folder.name,
        # Of a generation config it reads the EOS ids alone: it samples as it is asked to.
        "sampling_defaults": {},
        **{
            fact: getattr(stated, name)
            for fact, name in _ARGUMENTS.items()
            if hasattr(stated, name)
        },
        **built_facts(model),
        **before_merging(tokenizer),
        **loaded_tables(tokenizer),
    }
    return facts


def computed_type(mx: Any, arrays: list[Any]) -> str:
    """Return the float type that most values of ``arrays`` have.

    Packed weights are integers: the type of their scales is what they are computed in.
    """
    sizes: Counter[str] = Counter()
    for array in arrays:
        if mx.issubdtype(array.dtype, mx.floating):
            sizes[dtype_name(array.dtype)] += array.size
    return sizes.most_common(1)[0][0] if sizes else "unknown"
