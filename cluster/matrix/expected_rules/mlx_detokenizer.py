"""What mlx-lm's streaming detokenizer for byte-level BPE makes of the tokens of an answer.

It makes all of its text, streamed or not. It spells every token out, and it drops one space at the
beginning of an answer.
"""

from collections.abc import Sequence

from cluster.matrix.expected_rules.model_texts import ModelTexts

_BROKEN = "\ufffd"


def mlx_text(texts: ModelTexts, ids: Sequence[int]) -> str | None:
    """Return the text of an answer up to its end token; None for another kind of tokenizer."""
    if not texts.byte_level:
        return None
    text, waiting = "", b""
    for token in ids:
        if token in texts.eos_ids:
            break
        piece = texts.spelled_bytes(token)
        waiting += piece
        readable = waiting.decode(errors="replace")
        # A character may be incomplete, and a single space may belong to the next token.
        if not readable.endswith(_BROKEN) and piece != b" ":
            text, waiting = _joined(text, readable), b""
    return _joined(text, waiting.decode(errors="replace"))


def _joined(text: str, more: str) -> str:
    return text + (more[1:] if not text and more.startswith(" ") else more)
