"""Copies of a model folder with other weights, or with other facts in its configuration."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from runner.model.artifact import HfFolder, open_artifact, read_json
from suites.errors import UserError

#: Fact of the ``config`` stage → keys of config.json that state it.
_KEYS = {
    "rope_theta": ("rope_theta",),
    "rms_eps": ("rms_norm_eps",),
    "sliding_window": ("sliding_window",),
    "eos_ids": ("eos_token_id",),
    "attention_softcap": ("attn_logit_softcapping",),
    "final_softcap": ("final_logit_softcapping",),
    "experts_used": ("num_experts_per_tok",),
}
#: In a copy of a GGUF: Hugging Face tensor name → type of that tensor in the GGUF.
TYPES_FILE = "ggml_types.json"
_ROPE = {"rope_theta", "rope_scaling"}
#: Types of rope scaling whose parameters a fact holds all → parameter of the fact → HF's name.
_SCALINGS = {
    "none": {},
    "linear": {"factor": "factor"},
    "yarn": {
        "factor": "factor",
        "original_context": "original_max_position_embeddings",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
    },
}


def is_portable(fact: str, value: Any) -> bool:
    """Whether another engine takes a fact over from its model's files."""
    if fact == "rope_scaling":
        return isinstance(value, dict) and value.get("type") in _SCALINGS
    return fact in _KEYS


def with_weights(hf: Path, artifact: Path, form: str, out: Path) -> None:
    """Write a folder like ``hf`` with the weights of another artifact, dequantised to fp32.

    Of a GGUF it also says the type that each tensor had (``TYPES_FILE``): a floor rounds
    activations by it.

    Raises:
        UserError: the artifact lacks a tensor of the model, or cannot be dequantised.
    """
    truth, tensors = HfFolder(hf), open_artifact(artifact, form).tensors()
    places = {name: p for name, p in truth.places.items() if not truth.ties_head(p.name)}
    missing = [place.name for place in places.values() if place.name not in tensors]
    if missing:
        raise UserError(f"tensor {missing[0]} is missing", where=str(artifact))
    _copy_texts(hf, out)
    _write_config(out, {**read_json(hf / "config.json"), "dtype": "float32"})
    common = {name: tensors[name].values() for name in {p.name for p in places.values()}}
    values = {name: place.taken_from(common[place.name]) for name, place in places.items()}
    save_file(values, out / "model.safetensors", metadata={"format": "pt"})
    if form == "gguf":
        types = {name: tensors[place.name].kind for name, place in places.items()}
        (out / TYPES_FILE).write_text(json.dumps(types), encoding="utf-8")


def with_facts(hf: Path, facts: Mapping[str, Any], out: Path) -> None:
    """Write a folder like ``hf`` whose configuration states these facts, which are portable."""
    _copy_texts(hf, out)
    for path in hf.glob("*.safetensors"):
        (out / path.name).symlink_to(path.absolute())
    stated = {key: facts[fact] for fact in facts for key in _KEYS.get(fact, ())}
    config = read_json(hf / "config.json") | stated
    if _ROPE & facts.keys():
        config |= _rope_with(config, facts)
    _write_config(out, config)
    generation = out / "generation_config.json"
    if "eos_ids" in facts and generation.exists():
        body = {**read_json(generation), "eos_token_id": facts["eos_ids"]}
        generation.write_text(json.dumps(body, indent=2), encoding="utf-8")


def _rope_with(config: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of rope with these facts; layers with a window keep their own."""
    stated = config.get("rope_scaling") or config.get("rope_parameters") or {}
    nested = any(isinstance(part, dict) for part in stated.values())
    before = dict(stated.get("full_attention") or {}) if nested else dict(stated)
    if "rope_scaling" in facts:
        scaling = facts["rope_scaling"]
        names = _SCALINGS[scaling["type"]]
        kind = "default" if scaling["type"] == "none" else scaling["type"]
        kept = {k: before[k] for k in ("rope_theta", "partial_rotary_factor") if k in before}
        before = {"rope_type": kind, **kept, **{names[k]: scaling[k] for k in names}}
    if "rope_theta" in facts and (before or nested):
        before["rope_theta"] = facts["rope_theta"]
    if not before:
        return {}
    whole = {**stated, "full_attention": before} if nested else before
    return {"rope_scaling": None, "rope_parameters": whole}


def _copy_texts(hf: Path, out: Path) -> None:
    out.mkdir(parents=True)
    for path in hf.iterdir():
        if path.suffix in (".json", ".jinja"):
            shutil.copy(path, out / path.name)


def _write_config(out: Path, config: dict[str, Any]) -> None:
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
