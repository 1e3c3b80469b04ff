"""The tables of a tokenizer.json: tokens by id, merges in order, scores, and added tokens.

A vocabulary is a table from token to id (BPE, WordPiece), or a list of pieces with their scores in
the order of ids (Unigram).
"""

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: How a space inside a part of a merge is written, because a space stands between the parts.
_INNER_SPACE = chr(ord(" ") + 256)


@dataclass(frozen=True)
class TokenizerTables:
    """What a tokenizer looks up; ids need not be contiguous."""

    tokens: dict[int, str]
    merges: list[str]
    """Pairs in order of their rank, the two parts with a space between."""
    scores: list[float] | None
    """Of a Unigram vocabulary, in order of ids."""
    added: dict[int, bool]
    """Id of an added token → whether it is special."""


def tokenizer_tables(body: Mapping[str, Any]) -> TokenizerTables:
    """Read the tables of a tokenizer.json.

    Raises:
        ValueError: they are not in the form that the tokenizers library writes.
    """
    try:
        model = body.get("model") or {}
        vocabulary: Any = model.get("vocab")
        scores = None
        if isinstance(vocabulary, dict):
            tokens = {int(index): str(token) for token, index in vocabulary.items()}
        else:
            tokens = {i: str(piece) for i, (piece, _) in enumerate(vocabulary)}
            scores = [float(score) for _, score in vocabulary]
        added = {int(t["id"]): bool(t.get("special")) for t in body.get("added_tokens") or []}
        tokens |= {int(t["id"]): str(t["content"]) for t in body.get("added_tokens") or []}
        merges = [_merge(pair) for pair in model.get("merges") or []]
    except (AttributeError, TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError("its vocabulary is invalid") from error
    return TokenizerTables(tokens, merges, scores, added)


def _merge(pair: Any) -> str:
    if isinstance(pair, str):
        return pair
    left, right = pair
    return " ".join(part.replace(" ", _INNER_SPACE) for part in (left, right))


def digest(lines: Iterable[str]) -> str:
    """Return a digest of texts in their order."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode("utf-8", "surrogatepass") + b"\0")
    return found.hexdigest()


def tokens_digest(tables: TokenizerTables) -> str:
    """Return the digest of all tokens in order of their ids."""
    return digest(tables.tokens[i] for i in sorted(tables.tokens))


def flags_digest(tables: TokenizerTables) -> str:
    """Return the digest of which tokens were added, and which of them are special."""
    return digest(f"{i} {special:d}" for i, special in sorted(tables.added.items()))


def scores_digest(scores: Iterable[float]) -> str:
    """Return the digest of scores as float32, as GGUF files keep them."""
    return digest(struct.pack("<f", score).hex() for score in scores)


def table_facts(tables: TokenizerTables) -> dict[str, Any]:
    """Return the facts of the tables in which the merging is written."""
    return {
        "merges_digest": digest(tables.merges) if tables.merges else None,
        "scores_digest": None if tables.scores is None else scores_digest(tables.scores),
    }


def loaded_tables(tokenizer: Any) -> dict[str, Any]:
    """Return ``table_facts`` of a tokenizer that transformers loaded; a slow one hides them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    try:
        return (
            {} if backend is None else table_facts(tokenizer_tables(json.loads(backend.to_str())))
        )
    except ValueError:
        return {}
