"""Texts taken from a tokenizer's own tables: its tokens, its added tokens, its merges."""

import random
from collections.abc import Iterator
from typing import Any

from suites.model_files import ModelFiles

_LONGEST_TOKEN = 40
#: In names of tokens that some engines take as an end, whatever the model's files say.
_LIKE_ENDS = ("end", "eos", "eot", "eom", "</s>", "return", "call|", "repo", "file_sep", "fim_pad")


def added_tokens(files: ModelFiles) -> list[dict[str, Any]]:
    """Return the added tokens as ``tokenizer.json`` lists them, those with a text, by id."""
    found = files.tokenizer_json.get("added_tokens") or []
    listed = [t for t in found if isinstance(t, dict) and isinstance(t.get("content"), str)]
    kept = [t for t in listed if t["content"].strip() and isinstance(t.get("id"), int)]
    return sorted(kept, key=lambda token: int(token["id"]))


def plain_texts(files: ModelFiles) -> list[str]:
    """Return the texts of added tokens that users see, such as markup for calls."""
    return [t["content"] for t in added_tokens(files) if not t.get("special")]


def looks_like_an_end(text: str) -> bool:
    """Whether some engine may take a token for an end because of its name."""
    return any(word in text.lower() for word in _LIKE_ENDS)


def walked(files: ModelFiles, seed: str, texts: int, tokens: int) -> Iterator[str]:
    """Yield texts of tokens that were chosen at random and put one after another.

    What a merge made is the text of a token. Beside another token's text it may be cut elsewhere,
    so each text walks merges that no ordinary sentence needs.
    """
    chosen = random.Random(seed)
    size = files.size
    for _ in range(texts):
        pieces: list[str] = []
        for _ in range(tokens * 20):
            if len(pieces) == tokens:
                break
            text = files.decode([chosen.randrange(size)])
            if text and "\ufffd" not in text and len(text) <= _LONGEST_TOKEN and _is_shown(text):
                pieces.append(text)
        if pieces:
            yield "".join(pieces)


def _is_shown(text: str) -> bool:
    return all(c.isprintable() or c in "\n\t" for c in text)
