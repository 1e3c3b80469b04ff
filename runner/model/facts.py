"""Facts that a model's own files state: the truth of the ``config`` stage."""

import hashlib
from pathlib import Path
from typing import Any

from runner.engines.shared.sampling_defaults import NEUTRAL, sampling_defaults
from runner.engines.shared.tokenizer_json import normalizer, pre_tokenizer
from runner.model.artifact import gguf_architecture, read_json
from suites.errors import UserError

#: Rope base that llama and related architectures use when the file states none.
_ROPE_THETA = 10000.0


def model_facts(hf: Path, pass_: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return fact name → value as the files state it; None means that any value is right.

    ``context_length`` is what the matrix asks for, else what the model offers. In the structure
    pass compute and KV cache must be fp32.

    Raises:
        UserError: a file is missing, or a value has the wrong type.
    """
    config = _Stated(hf / "config.json")
    generation = _generation(hf / "generation_config.json")
    eos = generation.ids("eos_token_id")
    tokenizer = _Tokenizer(hf / "tokenizer.json")
    bos = config.integer("bos_token_id")
    heads = config.integer("num_attention_heads")
    grouped = config.integer("num_key_value_heads")
    exact = "f32" if pass_ == "structure" else None
    template = chat_template(hf)
    windowed = config.values.get("use_sliding_window", True)
    return {
        "architecture": gguf_architecture(str(config.values.get("model_type", ""))),
        "vocab_size": config.integer("vocab_size"),
        "bos_id": bos,
        "eos_ids": (config.ids("eos_token_id") if eos is None else eos) or [],
        "add_bos": tokenizer.adds_first(bos),
        "rope_theta": _rope_theta(config),
        "rms_eps": config.number("rms_norm_eps"),
        "context_length": options.get("n_ctx") or config.integer("max_position_embeddings"),
        "sliding_window": config.integer("sliding_window") if windowed else None,
        "layers": config.integer("num_hidden_layers"),
        "heads": heads,
        "kv_heads": heads if grouped is None else grouped,
        "compute_dtype": exact,
        "kv_dtype": exact,
        "template_digest": template and hashlib.sha256(template.encode()).hexdigest(),
        "tokenizer_digest": tokenizer.vocabulary_digest(),
        "pre_tokenizer": pre_tokenizer(tokenizer.body),
        "normalizer": normalizer(tokenizer.body),
        "sampling_defaults": _sampling_defaults(generation),
        "model_name": hf.name,
    }


def chat_template(hf: Path) -> str | None:
    """Return the model's chat template, None if it has none."""
    own = hf / "chat_template.jinja"
    if own.exists():
        try:
            return own.read_text(encoding="utf-8")
        except ValueError as error:
            raise UserError(f"is not UTF-8: {error}", where=str(own)) from error
    config = hf / "tokenizer_config.json"
    found = read_json(config).get("chat_template") if config.exists() else None
    return found if isinstance(found, str) else None


def _generation(path: Path) -> "_Stated":
    """Read the generation config; a model without one states nothing."""
    return _Stated(path) if path.exists() else _Stated(path, {})


def _sampling_defaults(generation: "_Stated") -> dict[str, Any]:
    numbers = {name: generation.number(name) for name in NEUTRAL}
    return sampling_defaults({**numbers, "do_sample": generation.values.get("do_sample")})


def _rope_theta(config: "_Stated") -> float | None:
    """Return the one base of all layers; None where each kind of layer has its own.

    Gemma 3 nests one dict per kind of layer: no single number of an engine is right or wrong then.
    """
    rope = config.table("rope_parameters") or config.table("rope_scaling")
    if any(isinstance(part, dict) for part in rope.values()):
        return None
    inner = _Stated(config.path, rope).number("rope_theta")
    return inner or config.number("rope_theta") or _ROPE_THETA


class _Stated:
    """A JSON file whose values are read with a type check; null is the same as a missing key."""

    def __init__(self, path: Path, values: dict[str, Any] | None = None) -> None:
        self.path = path
        self.values = read_json(path) if values is None else values

    def integer(self, key: str) -> int | None:
        found = self.values.get(key)
        if found is None or type(found) is int:
            return found
        raise self._wrong(key, "an integer")

    def number(self, key: str) -> float | None:
        found = self.values.get(key)
        if found is None:
            return None
        try:
            if type(found) in (int, float):
                return float(found)
        except OverflowError:
            pass
        raise self._wrong(key, "a number")

    def table(self, key: str) -> dict[str, Any]:
        found = self.values.get(key)
        if found is None or isinstance(found, dict):
            return found or {}
        raise self._wrong(key, "an object")

    def ids(self, key: str) -> list[int] | None:
        found = self.values.get(key)
        if found is None:
            return None
        several = found if isinstance(found, list) else [found]
        if all(type(i) is int for i in several):
            return sorted(several)
        raise self._wrong(key, "a token id or a list of them")

    def _wrong(self, key: str, wanted: str) -> UserError:
        shown = repr(self.values[key])[:80]
        return UserError(f"{key} is {shown}, expected {wanted}", where=str(self.path))


class _Tokenizer:
    """A tokenizer.json, of which only a few places matter here."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.body = read_json(path)

    def adds_first(self, bos: int | None) -> bool:
        """Whether the tokenizer itself puts BOS before a text."""
        try:
            processor = self.body.get("post_processor") or {}
            for part in processor.get("processors", [processor]):
                if part.get("type") == "TemplateProcessing" and part.get("single"):
                    first = part["single"][0].get("SpecialToken", {}).get("id")
                    ids = part.get("special_tokens", {}).get(first, {}).get("ids", [])
                    return bool(ids) and ids[0] == bos
        except (AttributeError, TypeError, KeyError, IndexError) as error:
            raise UserError("post_processor is invalid", where=str(self._path)) from error
        return False

    def vocabulary_digest(self) -> str:
        """Digest the tokens in order of their ids, as an engine can list them too."""
        try:
            vocabulary = self.body.get("model", {}).get("vocab")
            if not isinstance(vocabulary, dict):
                what = "tokenizer.json holds no vocabulary by token"
                raise UserError(what, where=str(self._path), fix="use a BPE tokenizer")
            by_id = {index: token for token, index in vocabulary.items()}
            by_id |= {t["id"]: t["content"] for t in self.body.get("added_tokens") or []}
            body = "\0".join(by_id[i] for i in sorted(by_id)).encode()
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise UserError("its vocabulary is invalid", where=str(self._path)) from error
        return hashlib.sha256(body).hexdigest()
