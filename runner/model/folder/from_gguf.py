"""A GGUF alone as a model folder in Hugging Face's layout: what the file says, in other words.

Nothing of it is llama.cpp's reading: metadata and tensors are read here, blocks are dequantised by
the gguf library, texts are tokenized by the tokenizers library.
"""

import json
import re
from pathlib import Path
from typing import Any

from runner.model.artifact import GgufFile, gguf_digest
from runner.model.folder.cache import Say, made_once
from runner.model.folder.gguf_config import GgufConfig, token_ids
from runner.model.folder.vocabulary.made import tokenizer_json
from runner.model.folder.vocabulary.tables import Tables, gguf_tables
from runner.model.folder.weights_writing import plain_size, write_weights
from runner.model.gguf_parts import model_stem

#: Changes when another folder is made from the same file, so that an old one is not taken for it.
_RULES = "r2"
#: The name of a template becomes the name of a file.
_TEMPLATE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GENERATION = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
}


def folder_of_gguf(path: Path, cache: Path, say: Say) -> tuple[Path, tuple[str, ...]]:
    """Return the model folder made from a GGUF, and notes on it; it is made once.

    Raises:
        UserError: the file is damaged, or something in it is not known here.
    """
    artifact = GgufFile(path)
    stated = GgufConfig(artifact.reading)
    stem = model_stem(path)

    def make(folder: Path) -> None:
        own = folder / stem
        own.mkdir()
        _write_texts(artifact, stated, own)
        write_weights(artifact, stated.architecture, own)

    name = f"gguf-{gguf_digest(path)[:16]}-{_RULES}"
    # Read also where the folder is there: the notes say what was not read.
    stated.config()
    made = made_once(cache, name, plain_size(artifact), make, say)
    # The same file under two names is the same model: its folder keeps the first one.
    return next(entry for entry in made.iterdir() if entry.is_dir()), _notes(stated)


def _notes(stated: GgufConfig) -> tuple[str, ...]:
    notes = ["the GGUF was taken as the model: conversion was not checked"]
    if stated.unread:
        count = len(stated.unread)
        keys = f"{count} keys of the GGUF were" if count > 1 else "1 key of the GGUF was"
        notes.append(f"{keys} not read: {', '.join(stated.unread)}")
    return tuple(notes)


def _write_texts(artifact: GgufFile, stated: GgufConfig, folder: Path) -> None:
    reading = artifact.reading
    tables = gguf_tables(reading)
    ids = token_ids(reading, len(tables.tokens))
    config = stated.config() | ids
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", _generation(artifact, ids))
    (folder / "tokenizer.json").write_text(tokenizer_json(tables), encoding="utf-8")
    length = config["max_position_embeddings"]
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(tables, length))
    _write_templates(artifact, folder)


def _generation(artifact: GgufFile, ids: dict[str, Any]) -> dict[str, Any]:
    stated = {name: artifact.field(key) for key, name in _GENERATION.items()}
    settings: dict[str, Any] = {name: value for name, value in stated.items() if value is not None}
    if settings:
        settings["do_sample"] = True
    return {**{name: value for name, value in ids.items() if value is not None}, **settings}


def _tokenizer_config(tables: Tables, length: int) -> dict[str, Any]:
    special = {f"{name}_token": tables.token(name) for name in tables.special}
    return {
        # This class takes tokenizer.json as it is; those of single models rebuild it.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
        "clean_up_tokenization_spaces": False,
        "model_max_length": length,
    }


def _write_templates(artifact: GgufFile, folder: Path) -> None:
    """Write the default template, and named ones beside it, where transformers looks for them."""
    template = artifact.field("tokenizer.chat_template")
    if isinstance(template, str):
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")
    for name in artifact.field("tokenizer.chat_templates") or []:
        named = artifact.field(f"tokenizer.chat_template.{name}")
        if isinstance(named, str) and _TEMPLATE_NAME.fullmatch(name):
            more = folder / "additional_chat_templates"
            more.mkdir(exist_ok=True)
            (more / f"{name}.jinja").write_text(named, encoding="utf-8", newline="")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
