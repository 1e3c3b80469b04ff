"""What a tokenizer.json does before it merges, in llama.cpp's words, so that both can be compared.

GGUF keeps no pre-tokenizer, only the name of one that is compiled into llama.cpp; a wrong name
splits text elsewhere and nothing says so.
"""

import json
from typing import Any

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
#: Regex of the splitting step → llama.cpp's name; each is unique to its tokenizer family.
_SPLITS = {
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST: "llama-bpe",
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST: "qwen2",
}
#: Names that llama.cpp treats as the same pre-tokenizer.
_SAME = {
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
}


def canonical_pre(name: str) -> str:
    """Return one name for llama.cpp's synonyms."""
    return _SAME.get(name, name)


def pre_tokenizer(tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name of a tokenizer.json's pre-tokenizer; None for one not known here."""
    steps = _steps(tokenizer.get("pre_tokenizer"), "pretokenizers")
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        pattern = steps[0].get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        return _SPLITS.get(regex) if isinstance(regex, str) else None
    return None


def normalizer(tokenizer: dict[str, Any]) -> str:
    """Return what a tokenizer.json does to text first: ``NFC``, ``Replace+Prepend``, ``none``."""
    steps = _steps(tokenizer.get("normalizer"), "normalizers")
    return "+".join(str(step.get("type")) for step in steps) or "none"


def _steps(part: Any, inner: str) -> list[dict[str, Any]]:
    """Return the steps of a part: several in a Sequence, else itself; none if it is ill formed."""
    if not isinstance(part, dict):
        return []
    steps = part.get(inner) if part.get("type") == "Sequence" else [part]
    return [s for s in steps if isinstance(s, dict)] if isinstance(steps, list) else []


def before_merging(tokenizer: Any) -> dict[str, Any]:
    """Return what the loaded tokenizer does to text first; a slow one does not show it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return {}
    body = json.loads(backend.to_str())
    return {"pre_tokenizer": pre_tokenizer(body), "normalizer": normalizer(body)}
