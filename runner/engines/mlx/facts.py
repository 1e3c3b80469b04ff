"""What mlx-lm says of a loaded model, in the names in which facts are compared."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from runner.engines.base import Loaded
from runner.engines.shared.names import architecture, dtype_name
from runner.engines.shared.tokenizer_json import before_merging

#: Fact → what a model's arguments call it; a model that lacks one does not state it.
_ARGUMENTS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "sliding_window": "sliding_window",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "rope_theta": "rope_theta",
    "rms_eps": "rms_norm_eps",
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
        "architecture": architecture(stated.model_type),
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
        **_built(model),
        **before_merging(tokenizer),
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


def _built(model: Any) -> dict[str, Any]:
    """Return what the layers were built with, which counts more than what was asked for."""
    layer, found = model.layers[0], dict[str, Any]()
    base = getattr(getattr(getattr(layer, "self_attn", None), "rope", None), "base", None)
    eps = getattr(getattr(layer, "input_layernorm", None), "eps", None)
    if base is not None:
        found["rope_theta"] = float(base)
    if eps is not None:
        found["rms_eps"] = float(eps)
    return found
