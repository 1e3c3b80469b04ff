"""Tokenizers that choose whole pieces: unigram (T5's) and WordPiece (BERT's)."""

from typing import Any

from runner.model.folder.vocabulary.byte_pairs import MARK, precompiled
from runner.model.folder.vocabulary.tables import BYTE, NORMAL, Tables
from suites.errors import UserError

Parts = dict[str, Any]


def unigram(tables: Tables) -> Parts:
    """Return the parts of a unigram tokenizer: the likeliest pieces of a text."""
    if not tables.scores or "unk" not in tables.special:
        what = "a unigram tokenizer without scores or without an unknown token"
        raise UserError(what, where=tables.where, fix="convert the model again")
    steps: list[Parts] = []
    if tables.charsmap:
        steps.append(precompiled(tables.charsmap))
    if tables.joins_spaces:
        steps.append({"type": "Strip", "strip_left": False, "strip_right": True})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": MARK})
    scheme = "never" if tables.space_prefix is False else "always"
    spaces = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": True}
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None,
        "pre_tokenizer": spaces,
        "decoder": spaces,
        "model": {
            "type": "Unigram",
            "unk_id": tables.special["unk"],
            "vocab": [list(pair) for pair in zip(tables.tokens, tables.scores, strict=True)],
            "byte_fallback": BYTE in tables.kinds,
        },
    }


def word_piece(tables: Tables) -> tuple[Tables, Parts]:
    """Return the tables with BERT's own spelling, and the parts of its WordPiece tokenizer.

    GGUF marks the beginning of a word (``▁play``), BERT its continuation (``##ing``).
    """
    tokens = [_spelt(*entry) for entry in zip(tables.tokens, tables.kinds, strict=True)]
    spelt = Tables(
        where=tables.where,
        model=tables.model,
        tokens=tokens,
        kinds=tables.kinds,
        special=tables.special,
        adds_bos=tables.adds_bos,
        adds_eos=tables.adds_eos,
    )
    return spelt, {
        # GGUF does not say whether case matters; the models that it names do not keep it.
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece",
            "unk_token": spelt.token("unk") or "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": spelt.vocabulary,
        },
    }


def _spelt(token: str, kind: int) -> str:
    if kind != NORMAL or (token.startswith("[") and token.endswith("]")):
        return token
    return token[1:] if token[:1] == MARK else f"##{token}"
