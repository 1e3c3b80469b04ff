"""The tables of a vocabulary, checked: what a tokenizer.json is made from."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from runner.model.gguf_reading import GgufReading
from suites.errors import UserError

#: Kinds of tokens; SentencePiece and GGUF number them alike.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_FIX: Final = "convert the model again, or give its Hugging Face folder"


@dataclass(frozen=True)
class Tables:
    """The tokens by id and what is known of them."""

    where: str
    """The file, for messages."""
    model: str
    """gpt2 (byte-level BPE), llama (SentencePiece BPE), gemma4 (BPE over characters), t5 (unigram),
    bert (WordPiece): GGUF's names."""
    tokens: list[str]
    kinds: list[int]
    scores: list[float] = field(default_factory=list)
    merges: list[tuple[str, str]] = field(default_factory=list)
    pre: str | None = None
    """GGUF's name of the rule that splits text before merging."""
    special: dict[str, int] = field(default_factory=dict)
    """bos, eos, unk, pad, sep, cls, mask → id; only those that the file states."""
    adds_bos: bool | None = None
    adds_eos: bool | None = None
    """None: the file does not say."""
    space_prefix: bool | None = None
    """Whether a space is put before a text; None: the file does not say."""
    prefix_once: bool = False
    """Whether only the first piece of a text gets it, not each one behind a special token."""
    joins_spaces: bool = False
    """Whether runs of spaces count as one."""
    charsmap: bytes = b""
    """SentencePiece's compiled table of characters; empty if text is not normalised."""
    flags: dict[int, dict[str, bool]] = field(default_factory=dict)
    """Id of an added token → lstrip, rstrip, normalized, single_word, special, as far as stated."""

    def token(self, name: str) -> str | None:
        """Return the text of a special token, None if there is none."""
        index = self.special.get(name)
        return None if index is None else self.tokens[index]

    @property
    def vocabulary(self) -> dict[str, int]:
        """Token → id."""
        return {token: index for index, token in enumerate(self.tokens)}

    @property
    def added(self) -> list[int]:
        """Ids of the tokens that are cut out of a text before it is split."""
        named = {
            self.special[name] for name in ("bos", "eos", "pad", "unk") if name in self.special
        }
        cut = (CONTROL, USER_DEFINED, UNKNOWN)
        # Without a table of kinds, the named ones are all that the file says of special tokens.
        known = set(self.kinds) != {NORMAL}
        chosen = set(self.flags) | (set() if known else named)
        return [i for i, kind in enumerate(self.kinds) if kind in cut or i in chosen]


#: Name of a special token → its key in a GGUF.
_SPECIAL = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "pad": "padding_token_id",
    "sep": "seperator_token_id",
    "cls": "cls_token_id",
    "mask": "mask_token_id",
}


def gguf_tables(reading: GgufReading) -> Tables:
    """Read a GGUF's tables.

    Raises:
        UserError: a table is missing, has the wrong type or length, or contradicts another.
    """
    stated = _Stated(reading)
    model = stated.text("model")
    if model is None or not (tokens := stated.texts("tokens")):
        raise stated.wrong("it holds no tokenizer (tokenizer.ggml.model and .tokens)")
    kinds = stated.numbers("token_type", len(tokens)) or [NORMAL] * len(tokens)
    charsmap = reading.metadata.get("tokenizer.ggml.precompiled_charsmap")
    found = Tables(
        where=str(reading.path),
        model=model,
        tokens=tokens,
        kinds=[int(kind) for kind in kinds],
        scores=stated.numbers("scores", len(tokens)),
        merges=[stated.pair(merge) for merge in stated.texts("merges")],
        pre=stated.text("pre"),
        special=stated.special(len(tokens)),
        adds_bos=stated.flag("add_bos_token"),
        adds_eos=stated.flag("add_eos_token"),
        space_prefix=stated.flag("add_space_prefix"),
        joins_spaces=stated.flag("remove_extra_whitespaces") or False,
        charsmap=charsmap.tobytes() if isinstance(charsmap, np.ndarray) else b"",
    )
    refuse_repeated(found)
    return found


def refuse_repeated(tables: Tables) -> None:
    """Raise UserError if two ids have the same token: a tokenizer.json cannot hold them."""
    if len(set(tables.tokens)) < len(tables.tokens):
        [(token, _)] = Counter(tables.tokens).most_common(1)
        ids = [i for i, t in enumerate(tables.tokens) if t == token][:3]
        raise UserError(
            f"the token {token!r:.80} has several ids: {ids}", where=tables.where, fix=_FIX
        )


class _Stated:
    """The ``tokenizer.ggml.`` keys of a GGUF, read with a type check."""

    def __init__(self, reading: GgufReading) -> None:
        self._values, self._where = reading.metadata, str(reading.path)

    def wrong(self, what: str) -> UserError:
        return UserError(what, where=self._where, fix=_FIX)

    def text(self, key: str) -> str | None:
        found: str | None = self._of(key, str, "a string")
        return found

    def flag(self, key: str) -> bool | None:
        found: bool | None = self._of(key, bool, "true or false")
        return found

    def texts(self, key: str) -> list[str]:
        found: list[str] = self._of(key, list, "an array of strings") or []
        return found

    def numbers(self, key: str, count: int) -> list[float]:
        found = self._of(key, np.ndarray, "an array of numbers")
        if found is None:
            return []
        if len(found) != count:
            raise self.wrong(f"tokenizer.ggml.{key} has {len(found)} items for {count} tokens")
        if not np.all(np.isfinite(found)):
            raise self.wrong(f"tokenizer.ggml.{key} holds a number that is NaN or infinite")
        return list(found.tolist())

    def special(self, count: int) -> dict[str, int]:
        ids: dict[str, int] = {}
        for name, key in _SPECIAL.items():
            index = self._of(key, int, "a token id")
            if index is None:
                continue
            if not 0 <= index < count:
                raise self.wrong(f"tokenizer.ggml.{key} is {index}, the last token is {count - 1}")
            ids[name] = index
        return ids

    def pair(self, merge: str) -> tuple[str, str]:
        parts = merge.split(" ")
        if len(parts) != 2 or not all(parts):
            raise self.wrong(f"tokenizer.ggml.merges holds {merge!r:.80}, which is not two tokens")
        return parts[0], parts[1]

    def _of(self, key: str, kind: type, wanted: str) -> Any:
        found = self._values.get(f"tokenizer.ggml.{key}")
        # A bool is an int to Python, not to a reader of ids.
        if found is None or type(found) is kind:
            return found
        shown = repr(found)[:60]
        raise self.wrong(f"tokenizer.ggml.{key} is {shown}, expected {wanted}")
