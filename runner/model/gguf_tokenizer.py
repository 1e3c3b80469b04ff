"""The tokenizer tables of a GGUF file against those of the model's tokenizer.json.

A converter writes some entries in another form on purpose; such an entry is no difference. Facts
that agree have the model's digest; of the others the first difference is said in words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.engines.shared.tokenizer_tables import (
    TokenizerTables,
    digest,
    flags_digest,
    scores_digest,
    table_facts,
    tokens_digest,
)

#: Types of tokens in a GGUF file (``llama_token_type`` of llama.cpp).
_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5
#: Tokens that the converter writes for ids that no token has.
_PADDING = re.compile(r"\[PAD\d+\]|<pad\d+>|<unused\d+>")
#: Added tokens that the converter marks as control tokens, whatever tokenizer.json says.
_LOOKS_SPECIAL = re.compile(
    r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL
)
#: What tokenizers trained with SentencePiece write for a space.
_SPACE = "\u2581"


@dataclass(frozen=True)
class GgufTables:
    """What a GGUF file says of its tokenizer; None where it says nothing."""

    model: str
    """``gpt2`` (byte-level BPE), ``llama`` (SentencePiece), ``t5`` (Unigram), …"""
    tokens: Sequence[str]
    types: Sequence[int] | None
    merges: Sequence[str] | None
    scores: Sequence[float] | None


@dataclass(frozen=True)
class Compared:
    """A fact of the file, and how it differs from the model's if it does."""

    seen: Any
    difference: str | None = None


def compared_tables(
    gguf: GgufTables, model: TokenizerTables, special: Mapping[int, bool]
) -> dict[str, Compared]:
    """Return fact → what the file states; tables that it does not hold are left out.

    Args:
        gguf: the tables of the file.
        model: those of tokenizer.json.
        special: id → whether tokenizer_config.json calls an added token special.
    """
    found = {
        "tokens_digest": _told(
            list(_other_tokens(gguf, model)), len(gguf.tokens), tokens_digest(model), gguf.tokens
        )
    }
    if gguf.types is not None:
        others = list(_other_types(gguf, model, special))
        types = [str(kind) for kind in gguf.types]
        found["token_flags_digest"] = _told(others, len(types), flags_digest(model), types)
    facts = table_facts(model)
    if gguf.merges is not None and gguf.model == "gpt2":
        others = list(_other_entries("merge", gguf.merges, model.merges))
        found["merges_digest"] = _told(
            others, max(len(gguf.merges), len(model.merges)), facts["merges_digest"], gguf.merges
        )
    elif gguf.model == "llama" and gguf.scores is not None and model.merges:
        others = list(_wrong_order(gguf, model))
        scores = [str(score) for score in gguf.scores]
        found["merges_digest"] = _told(others, len(scores), facts["merges_digest"], scores)
    if gguf.scores is not None and model.scores is not None:
        seen = list(gguf.scores)[: len(model.scores)]
        same = scores_digest(seen) == facts["scores_digest"]
        others = [] if same else list(_other_entries("score", seen, model.scores))
        found["scores_digest"] = Compared(scores_digest(seen), _first(others, len(seen)))
    return found


def _told(others: list[str], size: int, model: str | None, own: Sequence[str]) -> Compared:
    return Compared(digest(own), _first(others, size)) if others else Compared(model)


def _first(others: list[str], size: int) -> str | None:
    if not others:
        return None
    return others[0] + (f" ({len(others)} of {size} differ)" if len(others) > 1 else "")


def _other_entries(what: str, seen: Sequence[Any], model: Sequence[Any]) -> Iterator[str]:
    for i, (a, b) in enumerate(zip(seen, model, strict=False)):
        if a != b:
            yield f"{what} {i} is {a!r}, the model has {b!r}"
    for i in range(min(len(seen), len(model)), max(len(seen), len(model))):
        if i < len(seen):
            yield f"{what} {i} is {seen[i]!r}, the model has none"
        else:
            yield f"{what} {i} is missing, the model has {model[i]!r}"


def _other_tokens(gguf: GgufTables, model: TokenizerTables) -> Iterator[str]:
    for i, token in enumerate(gguf.tokens):
        wanted = model.tokens.get(i)
        unused = gguf.types is not None and i < len(gguf.types) and gguf.types[i] == _UNUSED
        if wanted is None:
            if not unused and not _PADDING.fullmatch(token):
                yield f"token {i} is {token!r}, the model has none"
        elif token != wanted and token != wanted.replace(_SPACE, " "):
            yield f"token {i} is {token!r}, the model has {wanted!r}"
    for i in sorted(model.tokens):
        if i >= len(gguf.tokens):
            yield f"token {i} is missing, the model has {model.tokens[i]!r}"


def _other_types(
    gguf: GgufTables, model: TokenizerTables, special: Mapping[int, bool]
) -> Iterator[str]:
    for i, kind in enumerate(gguf.types or ()):
        token = model.tokens.get(i)
        if token is None or kind == _UNKNOWN:
            continue
        wanted = {model.added[i]} if i in model.added else set[bool]()
        if i in special:
            wanted.add(special[i])
        if wanted and _LOOKS_SPECIAL.fullmatch(token):
            wanted.add(True)
        names = {_CONTROL if flag else _USER_DEFINED for flag in wanted}
        is_added = kind in (_CONTROL, _USER_DEFINED)
        if kind not in names if names else is_added:
            yield f"token {i} ({token!r}) is {_named(kind)}, the model has it as {_wanted(names)}"


def _named(kind: int) -> str:
    names = {_CONTROL: "a control token", _USER_DEFINED: "an added token that is not special"}
    return names.get(kind, "a plain token")


def _wanted(names: set[int]) -> str:
    return " or ".join(_named(kind) for kind in sorted(names)) or "a plain token"


def _wrong_order(gguf: GgufTables, model: TokenizerTables) -> Iterator[str]:
    """Find merges that come before one with a higher score: SentencePiece merges by score."""
    ids = {token: i for i, token in model.tokens.items()}
    last, before = float("inf"), ""
    for merge in model.merges:
        token = merge.replace(" ", "")
        index = ids.get(token)
        if index is None or index >= len(gguf.scores or ()):
            continue
        score = (gguf.scores or ())[index]
        if score > last:
            yield f"token {token!r} has a higher score than {before!r}, the model merges it later"
        last, before = score, token
