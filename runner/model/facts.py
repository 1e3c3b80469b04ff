"""Facts that a model's own files state: the truth of the ``config`` stage."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runner.engines.shared.sampling_defaults import NEUTRAL, sampling_defaults
from runner.engines.shared.tokenizer_json import normalizer, pre_tokenizer
from runner.engines.shared.tokenizer_tables import (
    TokenizerTables,
    flags_digest,
    table_facts,
    tokenizer_tables,
    tokens_digest,
)
from runner.model.architectures.hf_config import config_facts, text_config, uncompared_keys
from runner.model.architectures.stated import Stated
from runner.model.artifact import read_json
from suites.errors import UserError


def model_facts(hf: Path, pass_: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return fact name → value as the files state it; None means that any value is right.

    ``context_length`` is what the matrix asks for, else what the model offers. In the structure
    pass compute and KV cache must be fp32. ``not_compared`` names the keys of config.json that
    nothing here understands.

    Raises:
        UserError: a file is missing, or a value has the wrong type.
    """
    config = hf / "config.json"
    values = read_json(config)
    tokenizer = _Tokenizer(hf / "tokenizer.json")
    tables = tokenizer.tables()
    exact = "f32" if pass_ == "structure" else None
    template = chat_template(hf)
    with _naming(config):
        facts = config_facts(values)
        stated = Stated(text_config(values))
        bos, ends = stated.integer("bos_token_id"), stated.ids("eos_token_id")
        facts["not_compared"] = uncompared_keys(values)
    generation = hf / "generation_config.json"
    with _naming(generation):
        generated = Stated(read_json(generation) if generation.exists() else {})
        own_ends = generated.ids("eos_token_id")
        sampling = _sampling_defaults(generated)
    return facts | {
        "bos_id": bos,
        "eos_ids": (ends if own_ends is None else own_ends) or [],
        "add_bos": tokenizer.adds_first(bos),
        "context_length": options.get("n_ctx") or facts["context_length"],
        "compute_dtype": exact,
        "kv_dtype": exact,
        "template_digest": template and hashlib.sha256(template.encode()).hexdigest(),
        "tokenizer_digest": _vocabulary_digest(tables),
        "tokens_digest": tokens_digest(tables),
        "token_flags_digest": flags_digest(tables),
        **table_facts(tables),
        "pre_tokenizer": pre_tokenizer(tokenizer.body),
        "normalizer": normalizer(tokenizer.body),
        "sampling_defaults": sampling,
        "model_name": hf.name,
    }


def model_tables(hf: Path) -> TokenizerTables:
    """Return the tables of a model's tokenizer.json."""
    return _Tokenizer(hf / "tokenizer.json").tables()


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


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file holds a value of the wrong type."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise UserError(str(error), where=str(path)) from error


def _sampling_defaults(generation: Stated) -> dict[str, Any]:
    numbers = {name: generation.number(name) for name in NEUTRAL}
    return sampling_defaults({**numbers, "do_sample": generation.values.get("do_sample")})


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

    def tables(self) -> TokenizerTables:
        """Return its tables of tokens and merges."""
        try:
            return tokenizer_tables(self.body)
        except ValueError as error:
            raise UserError(str(error), where=str(self._path)) from error


def _vocabulary_digest(tables: TokenizerTables) -> str:
    """Digest the tokens in order of their ids, as an engine can list them too."""
    body = "\0".join(tables.tokens[i] for i in sorted(tables.tokens))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
