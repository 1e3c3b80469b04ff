"""The vocabulary tables of a Hugging Face folder that has no tokenizer.json."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.model.folder.vocabulary.ranked_bytes import tekken_tables, tiktoken_tables
from runner.model.folder.vocabulary.sentencepiece_model import (
    is_sentencepiece,
    sentencepiece_tables,
)
from runner.model.folder.vocabulary.tables import (
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    Tables,
    refuse_repeated,
)
from suites.errors import UserError
from suites.rendering.templates import read_object, special_tokens

#: model_type → the rule that splits text, which a tiktoken file does not say: it stands in Python
#: code of the model's publisher, which is not run.
_TIKTOKEN_RULES = {"llama": "llama-bpe", "qwen": "qwen2", "chatglm": "glm4", "glm4": "glm4"}
#: tokenizer_class → the rule of a vocab.json with merges.txt.
_MERGES_RULES = {
    "GPT2Tokenizer": "gpt-2",
    "GPT2TokenizerFast": "gpt-2",
    "Qwen2Tokenizer": "qwen2",
    "Qwen2TokenizerFast": "qwen2",
    "GPTNeoXTokenizer": "olmo",
}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_MOST_TOKENS = 1 << 22
_FIX = "save the model with a tokenizer.json: `AutoTokenizer.from_pretrained(…).save_pretrained(…)`"


def folder_tables(folder: Path, model_type: str) -> Tables:
    """Read the tables.

    Raises:
        UserError: the folder has no tokenizer that can be read.
    """
    config = read_object(folder / "tokenizer_config.json")
    tables = _read(folder, model_type, str(config.get("tokenizer_class")))
    if tables is None:
        raise UserError(
            "it has no tokenizer that can be read",
            where=str(folder),
            known="tokenizer.json, tokenizer.model, tekken.json, *.tiktoken, vocab.json+merges.txt",
            fix=_FIX,
        )
    tables = _with_added(tables, folder, config)
    said = {key: config[key] for key in ("add_bos_token", "add_eos_token") if key in config}
    return replace(
        tables,
        adds_bos=_flag(said.get("add_bos_token"), tables.adds_bos),
        adds_eos=_flag(said.get("add_eos_token"), tables.adds_eos),
        space_prefix=_flag(config.get("add_prefix_space"), tables.space_prefix),
        # transformers' word for a tokenizer that puts no space behind a special token.
        prefix_once=config.get("legacy") is False and tables.model == "llama",
    )


def _read(folder: Path, model_type: str, class_name: str) -> Tables | None:
    if (path := folder / "tekken.json").is_file():
        return tekken_tables(path)
    for path in (folder / "tokenizer.model", folder / "spiece.model"):
        if path.is_file() and is_sentencepiece(path):
            return sentencepiece_tables(path)
    for path in (*sorted(folder.glob("*.tiktoken")), *sorted(folder.glob("*.model"))):
        rule = _TIKTOKEN_RULES.get(model_type)
        if rule is None:
            raise UserError(
                f"how {model_type!r:.80} models split text stands in Python code, which is not run",
                where=str(path),
                known=", ".join(sorted(_TIKTOKEN_RULES)),
                fix=_FIX,
            )
        return tiktoken_tables(path, rule)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _merges_tables(folder, class_name)
    return None


def _merges_tables(folder: Path, class_name: str) -> Tables:
    where = folder / "vocab.json"
    rule = _MERGES_RULES.get(class_name)
    if rule is None:
        what = f"tokenizer_class is {class_name!r:.80}: how it splits text is not known here"
        raise UserError(what, where=str(folder), known=", ".join(_MERGES_RULES), fix=_FIX)
    by_id = {index: token for token, index in read_object(where).items()}
    if set(by_id) != set(range(len(by_id))):
        raise UserError("its ids have gaps or repetitions", where=str(where), fix=_FIX)
    merges = []
    path = folder / "merges.txt"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise UserError("not readable as UTF-8 text", where=str(path), fix=_FIX) from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#version"):
            continue
        parts = line.split(" ")
        if len(parts) != 2:
            raise UserError("a merge is not two tokens", where=f"{path}:{number}", fix=_FIX)
        merges.append((parts[0], parts[1]))
    tokens = [by_id[i] for i in range(len(by_id))]
    return Tables(str(where), "gpt2", tokens, [NORMAL] * len(tokens), merges=merges, pre=rule)


def _with_added(tables: Tables, folder: Path, config: dict[str, Any]) -> Tables:
    """Return the tables with the tokens that the folder adds to its vocabulary."""
    added = {i: ({"content": t}) for t, i in read_object(folder / "added_tokens.json").items()}
    added |= _decoder(config.get("added_tokens_decoder"))
    tokens, kinds, scores = list(tables.tokens), list(tables.kinds), list(tables.scores)
    flags: dict[int, dict[str, bool]] = {}
    for index, entry in sorted(added.items(), key=lambda item: str(item[0]).zfill(12)):
        content = entry.get("content")
        if type(index) is not int or not isinstance(content, str) or not 0 <= index < _MOST_TOKENS:
            what = "an added token has no id or no text"
            raise UserError(what, where=str(folder / "tokenizer_config.json"), fix=_FIX)
        while len(tokens) <= index:
            # A name for an id that no file gives a token: nothing in a text becomes it.
            tokens.append(f"<unused {len(tokens)}>")
            kinds.append(UNUSED)
            scores += [0.0] if scores else []
        tokens[index] = content
        kinds[index] = CONTROL if entry.get("special") else USER_DEFINED
        flags[index] = {name: bool(entry[name]) for name in _FLAGS if name in entry}
    places = {token: index for index, token in enumerate(tokens)}
    named = {
        name.removesuffix("_token"): places[token]
        for name, token in special_tokens(folder).items()
        if token in places and name.endswith("_token")
    }
    found = replace(
        tables,
        tokens=tokens,
        kinds=kinds,
        scores=scores,
        flags=flags,
        special={**tables.special, **named},
    )
    refuse_repeated(found)
    return found


def _decoder(listed: Any) -> dict[Any, dict[str, Any]]:
    if not isinstance(listed, dict):
        return {}
    return {
        int(index) if index.isdecimal() else index: entry
        for index, entry in listed.items()
        if isinstance(entry, dict)
    }


def _flag(stated: Any, otherwise: bool | None) -> bool | None:
    return stated if isinstance(stated, bool) else otherwise
