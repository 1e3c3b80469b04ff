"""What llama-server states about the loaded model, in the names in which facts are compared."""

import hashlib
from typing import Any

from runner.engines.shared.sampling_defaults import sampling_defaults

_DEFAULTS = {
    **{name: name for name in ("temperature", "top_k", "top_p", "min_p", "typical_p")},
    "repetition_penalty": "repeat_penalty",
}
#: Parts of llama.cpp's names of file types, as the quantisations are written elsewhere.
_FILE_TYPES = {" - small": "_s", " - medium": "_m", " - large": "_l", "all ": "", "(guessed)": ""}
#: What it samples with where neither a model nor a user says anything.
_OWN_DEFAULTS = {"do_sample": True, "min_p": 0.05, "temperature": 0.8, "top_k": 40, "top_p": 0.95}


def stated_facts(props: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """Return the facts in ``/props``, and in what the list of models says of this model."""
    settings = props.get("default_generation_settings")
    settings = settings if isinstance(settings, dict) else {}
    found: dict[str, Any] = {}
    if isinstance(size := meta.get("n_vocab"), int):
        found["vocab_size"] = size
    if isinstance(length := settings.get("n_ctx"), int):
        found["context_length"] = length
    if isinstance(template := props.get("chat_template"), str):
        digest = hashlib.sha256(template.encode("utf-8", "surrogatepass")).hexdigest()
        found["template_digest"] = digest
    if isinstance(params := settings.get("params"), dict):
        applied = _applied(params)
        if applied != _OWN_DEFAULTS:
            found["sampling_defaults"] = applied
    return found


def meta_of(models: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return what the list of models says of this one."""
    for model in models:
        if model.get("id") == name and isinstance(model.get("meta"), dict):
            found: dict[str, Any] = model["meta"]
            return found
    return {}


def _applied(params: dict[str, Any]) -> dict[str, Any]:
    """Return the sampling applied where nothing is asked, in the words of a generation config."""
    wanted = {name: params.get(key) for name, key in _DEFAULTS.items()}
    stated = {name: float(f"{v:.6g}") for name, v in wanted.items() if isinstance(v, int | float)}
    return sampling_defaults({**stated, "do_sample": stated.get("temperature", 0.0) > 0})


def file_type(spelled: Any) -> str:
    """Return the short name of a file type that llama.cpp spells out."""
    name = spelled.lower() if isinstance(spelled, str) else "unknown"
    for long, short in _FILE_TYPES.items():
        name = name.replace(long, short)
    return name.strip()
