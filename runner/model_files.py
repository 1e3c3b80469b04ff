"""What a model's own files say about it: the truth of the ``config`` stage."""

import hashlib
from pathlib import Path
from typing import Any

from runner.artifact import gguf_architecture, read_json
from suites.errors import UserError


def model_facts(hf: Path, pass_: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return fact name → value as the files state it; None means that anything is right.

    ``context_length`` is what the matrix asks for, else what the model offers. In the structure
    pass compute and KV cache must be fp32.
    """
    config = read_json(hf / "config.json")
    generation = hf / "generation_config.json"
    eos = (read_json(generation) if generation.exists() else {}).get("eos_token_id")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    tokenizer = read_json(hf / "tokenizer.json")
    bos = config.get("bos_token_id")
    exact = "f32" if pass_ == "structure" else None
    template = chat_template(hf)
    return {
        "architecture": gguf_architecture(str(config.get("model_type", ""))),
        "vocab_size": config.get("vocab_size"),
        "bos_id": bos,
        "eos_ids": _as_ids(config.get("eos_token_id") if eos is None else eos),
        "add_bos": _adds_first(tokenizer, bos),
        "rope_theta": float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        "rms_eps": config.get("rms_norm_eps"),
        "context_length": options.get("n_ctx") or config.get("max_position_embeddings"),
        "sliding_window": (
            config.get("sliding_window") if config.get("use_sliding_window", True) else None
        ),
        "layers": config.get("num_hidden_layers"),
        "heads": config.get("num_attention_heads"),
        "kv_heads": config.get("num_key_value_heads", config.get("num_attention_heads")),
        "compute_dtype": exact,
        "kv_dtype": exact,
        "template_digest": template and hashlib.sha256(template.encode()).hexdigest(),
        "tokenizer_digest": _vocabulary_digest(tokenizer),
        "model_name": hf.name,
    }


def chat_template(hf: Path) -> str | None:
    """Return the model's chat template, None if it has none."""
    own = hf / "chat_template.jinja"
    if own.exists():
        return own.read_text(encoding="utf-8")
    config = hf / "tokenizer_config.json"
    found = read_json(config).get("chat_template") if config.exists() else None
    return found if isinstance(found, str) else None


def _as_ids(value: Any) -> list[int]:
    return sorted(value) if isinstance(value, list) else [] if value is None else [value]


def _adds_first(tokenizer: dict[str, Any], bos: int | None) -> bool:
    """Whether the tokenizer itself puts BOS before a text."""
    processor = tokenizer.get("post_processor") or {}
    for part in processor.get("processors", [processor]):
        if part.get("type") == "TemplateProcessing" and part.get("single"):
            first = part["single"][0].get("SpecialToken", {}).get("id")
            ids = part.get("special_tokens", {}).get(first, {}).get("ids", [])
            return bool(ids) and ids[0] == bos
    return False


def _vocabulary_digest(tokenizer: dict[str, Any]) -> str:
    """Digest the tokens in order of their ids, as an engine can list them too."""
    vocabulary = tokenizer.get("model", {}).get("vocab")
    if not isinstance(vocabulary, dict):
        raise UserError("tokenizer.json holds no vocabulary by token", fix="use a BPE tokenizer")
    by_id = {index: token for token, index in vocabulary.items()}
    by_id |= {t["id"]: t["content"] for t in tokenizer.get("added_tokens", [])}
    return hashlib.sha256("\0".join(by_id[i] for i in sorted(by_id)).encode()).hexdigest()
