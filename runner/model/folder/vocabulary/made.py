"""The whole tokenizer.json: parts by the kind of vocabulary, added tokens, BOS and EOS."""

import json
from typing import Any

from tokenizers import Tokenizer

from runner.model.folder.vocabulary.byte_pairs import byte_level, characters, rule_of
from runner.model.folder.vocabulary.pieces import unigram, word_piece
from runner.model.folder.vocabulary.tables import CONTROL, UNKNOWN, Tables
from suites.errors import UserError


def tokenizer_json(tables: Tables) -> str:
    """Return the text of a tokenizer.json that does what the tables say.

    Raises:
        UserError: the kind of vocabulary is not known, or the tables contradict each other.
    """
    adds = False
    match tables.model:
        case "gpt2":
            rule = rule_of(tables)
            adds, parts = rule.adds_bos, byte_level(tables, rule)
        case "llama" | "gemma4":
            if not tables.merges and not tables.scores:
                what = "a SentencePiece vocabulary without scores: nothing says what merges first"
                raise UserError(what, where=tables.where, fix="convert the model again")
            adds, parts = True, characters(tables)
        case "t5":
            parts = unigram(tables)
        case "bert":
            tables, parts = word_piece(tables)
        case other:
            raise UserError(
                f"a tokenizer of the kind {other!r:.80}, which is not known",
                where=tables.where,
                known="gpt2, llama, gemma4, t5, bert",
                fix="give the model's Hugging Face folder",
            )
    body = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(tables, index) for index in tables.added],
        "post_processor": _processor(tables, adds),
        **parts,
    }
    text = json.dumps(body, ensure_ascii=False)
    try:
        Tokenizer.from_str(text)
    except Exception as error:
        # The library raises bare exceptions; their words are of its code, not of the file.
        what = "its vocabulary tables contradict each other: no tokenizer can be made from them"
        raise UserError(what, where=tables.where, fix="convert the model again") from error
    return text


def _added(tables: Tables, index: int) -> dict[str, Any]:
    kinds = (CONTROL, UNKNOWN)
    named = index in tables.special.values() and not any(k in kinds for k in tables.kinds)
    return {
        "id": index,
        "content": tables.tokens[index],
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": tables.kinds[index] in kinds or named,
        **tables.flags.get(index, {}),
    }


def _processor(tables: Tables, adds_bos: bool) -> dict[str, Any] | None:
    """Return what puts BOS before and EOS behind a text, None if nothing does."""
    names: list[str | None] = ["cls", None, "sep"]
    if tables.model != "bert":
        first = adds_bos if tables.adds_bos is None else tables.adds_bos
        names = ["bos" if first else None, None, "eos" if tables.adds_eos else None]
    before, after = (name if name in tables.special else None for name in (names[0], names[2]))
    if before is None and after is None:
        return None
    ids = {n: (tables.tokens[tables.special[n]], tables.special[n]) for n in (before, after) if n}

    def around(sequence: str, type_id: int) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = [{"Sequence": {"id": sequence, "type_id": type_id}}]
        if before and (sequence == "A" or tables.model != "bert"):
            parts.insert(0, {"SpecialToken": {"id": ids[before][0], "type_id": type_id}})
        if after:
            parts.append({"SpecialToken": {"id": ids[after][0], "type_id": type_id}})
        return parts

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {
            token: {"id": token, "ids": [index], "tokens": [token]} for token, index in ids.values()
        },
    }
