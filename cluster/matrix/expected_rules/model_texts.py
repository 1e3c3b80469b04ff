"""The texts of a model as rules need them: tokenizer, template and end tokens."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from suites.model_files import ModelFiles
from suites.rendering import Rendered
from suites.suite import Script

#: Steps of a normaliser that only write spaces in another way; engines have them in their own form.
_SPACES = ("Prepend", "Replace")
_SPACE = "\u2581"


class ModelTexts:
    """Tokenizer and template of a model folder in Hugging Face's layout."""

    def __init__(self, folder: Path) -> None:
        self._files = ModelFiles(folder)
        self._tokenizer = self._files.tokenizer_json
        self._added: dict[int, dict[str, Any]] = {
            token["id"]: token for token in self._tokenizer.get("added_tokens") or []
        }

    def close(self) -> None:
        """End the process that renders templates."""
        self._files.close()

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Text of each token, as the tokenizer writes it → its id."""
        vocab = self._tokenizer["model"]["vocab"]
        listed = vocab if isinstance(vocab, dict) else {t[0]: i for i, t in enumerate(vocab)}
        return {**listed, **{token["content"]: i for i, token in self._added.items()}}

    @cached_property
    def _spelling(self) -> dict[int, str]:
        return {i: token for token, i in self.vocabulary.items()}

    @cached_property
    def specials(self) -> frozenset[int]:
        """Ids of the control tokens, which no user gets as text."""
        return frozenset(i for i, token in self._added.items() if token.get("special"))

    @property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end an answer, as the model's files say."""
        return frozenset(self._files.ends)

    @property
    def eos_text(self) -> str:
        """The end token that the tokenizer's configuration names; empty if it names none."""
        return self._files.templates.specials.get("eos_token", "")

    @property
    def bos_text(self) -> str:
        """The token that begins a text, as the configuration names it; empty if it names none."""
        return self._files.templates.specials.get("bos_token", "")

    @cached_property
    def byte_level(self) -> bool:
        """Whether the tokenizer is byte-level BPE."""
        return _is_byte_level(self._tokenizer)

    def visible(self, ids: Sequence[int]) -> str:
        """Return the text of ids without control tokens."""
        return self._files.visible(ids)

    def spelled_bytes(self, token: int) -> bytes:
        """Return what a token's spelling stands for, character by character, in byte-level BPE.

        Raises:
            KeyError: there is no such token.
        """
        spelling = self._spelling[token]
        return b"".join(bytes([_BYTES[c]]) if _BYTES.get(c) else c.encode() for c in spelling)

    @cached_property
    def _raw(self) -> Tokenizer | None:
        """The tokenizer without Unicode normalisation; None if it has none to leave out."""
        given = self._tokenizer.get("normalizer")
        steps = given.get("normalizers", [given]) if isinstance(given, dict) else []
        kept = [step for step in steps if step.get("type") in _SPACES]
        if len(kept) == len(steps):
            return None
        changed = {"type": "Sequence", "normalizers": kept} if kept else None
        return Tokenizer.from_str(json.dumps({**self._tokenizer, "normalizer": changed}))

    def ids(self, text: str, *, add_special: bool) -> list[int]:
        """Return the ids of a text."""
        return self._files.encode(text, add_special=add_special)

    def raw_ids(self, text: str, *, add_special: bool) -> list[int]:
        """Return the ids of a text to which no Unicode normalisation was applied."""
        if self._raw is None:
            return self.ids(text, add_special=add_special)
        return list(self._raw.encode(text, add_special_tokens=add_special).ids)

    def script_ids(self, script: Script) -> list[int]:
        """Return the ids that are forced for a script."""
        return self._files.script_ids(script)

    def rendered(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> str | None:
        """Return the prompt of a conversation that goes into the template as it was sent.

        None if the template refuses it.

        Raises:
            UserError: the model has no template, or its template reached a limit.
        """
        found = self._files.rendering(
            [dict(m) for m in messages], [dict(t) for t in tools] if tools else None, dict(options)
        )
        return found.text if isinstance(found, Rendered) else None

    def template(self, *, tools: bool) -> str:
        """Return the source of the template for a conversation with or without tools.

        Raises:
            UserError: the model has none.
        """
        return self._files.templates.choose(tools=tools)

    def bytes_of(self, token: int) -> bytes:
        """Return the bytes of an ordinary token, and the text of an added one.

        Raises:
            KeyError: there is no such token, or its spelling is not known here.
        """
        spelling = self._spelling[token]
        if token in self._added:
            return spelling.encode()
        if self.byte_level:
            return bytes(_BYTES[character] for character in spelling)
        if len(spelling) == 6 and spelling.startswith("<0x") and spelling.endswith(">"):
            return bytes([int(spelling[3:5], 16)])
        return spelling.replace(_SPACE, " ").encode()


def _is_byte_level(tokenizer: dict[str, Any]) -> bool:
    parts = [tokenizer.get("pre_tokenizer"), tokenizer.get("decoder")]
    steps = [
        step
        for part in parts
        if isinstance(part, dict)
        for step in part.get("pretokenizers") or part.get("decoders") or [part]
    ]
    return any(step.get("type") == "ByteLevel" for step in steps)


def _byte_characters() -> dict[str, int]:
    """Return the character by which byte-level BPE writes each byte → the byte."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTES = _byte_characters()
