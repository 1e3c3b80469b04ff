"""What a model's files say about texts: its chat templates, its tokenizer and its EOS set.

Nothing here is an engine under test: templates are rendered by jinja2, as transformers does, and
ids come from the ``tokenizers`` library.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from suites.digest import tagged_digest
from suites.errors import UserError
from suites.rendering import ChatTemplates, Refused, Rendered, Renderer
from suites.rendering.templates import read_object
from suites.suite import Case, Script

#: Kind and rule of the digest of a model's texts.
_TAG = "x1"


class ModelFiles:
    """The texts of one model folder (Hugging Face layout)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer_json = read_object(folder / "tokenizer.json")
        if not self.tokenizer_json:
            raise UserError(
                "there is no tokenizer",
                where=str(folder / "tokenizer.json"),
                fix="give a folder with tokenizer.json and its configuration",
            )
        self.templates = ChatTemplates.of(folder)
        self.ends = self._end_ids()
        self._renderer = Renderer()

    @cached_property
    def digest(self) -> str:
        """``x1:…`` over everything that makes the texts; models that share it share the answers."""
        parts = {
            "templates": self.templates.sources,
            "specials": self.templates.specials,
            "tokenizer": self.tokenizer_json,
            "ends": self.ends,
        }
        return tagged_digest(_TAG, parts)

    def rendering(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        *,
        open_turn: bool = True,
    ) -> Rendered | Refused:
        """Return what transformers makes of a conversation: a prompt, or the template's refusal.

        Raises:
            UserError: the model has no template, or its template reached a limit.
        """
        try:
            return self._renderer.render(
                self.templates.choose(tools=bool(tools)),
                {
                    **self.templates.specials,
                    "messages": list(messages),
                    "tools": list(tools) if tools else None,
                    "documents": None,
                    "add_generation_prompt": open_turn,
                    **(options or {}),
                },
            )
        except UserError as error:
            raise UserError(
                error.what, where=str(self.folder), known=error.known, fix=error.fix
            ) from error

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        options: dict[str, Any] | None = None,
        *,
        open_turn: bool = True,
    ) -> str:
        """Return the prompt of a conversation, with the header of the answer if ``open_turn``.

        Content with one text part (OpenAI's long form) is rendered as its text.

        Raises:
            UserError: the template refuses the conversation, or there is none.
        """
        plain = [{**message, **_plain(message)} for message in messages]
        found = self.rendering(plain, tools, options, open_turn=open_turn)
        if isinstance(found, Refused):
            what = f"the chat template refuses the conversation: {found.reason}"
            raise UserError(what, where=str(self.folder))
        return found.text

    def variables(self) -> frozenset[str]:
        """Return the names that the templates read and do not set."""
        sources = self.templates.sources.values()
        return frozenset().union(*(self._renderer.variables(source) for source in sources))

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        """Return the ids of ``text``, with the tokenizer's BOS if ``add_special``."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special).ids
        return ids

    def close(self) -> None:
        """End the process that renders."""
        self._renderer.close()

    @property
    def size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def normalised(self, text: str) -> str:
        """Return ``text`` as the tokenizer's normaliser changes it, before it is cut."""
        normaliser = self._tokenizer.normalizer
        return text if normaliser is None else str(normaliser.normalize_str(text))

    def continuation(self, text: str) -> list[int]:
        """Return the ids of ``text`` as a model writes it after a prompt.

        A tokenizer that begins every text with a space adds none here.
        """
        if self._begins_with_space:
            before = self.encode("\n", add_special=False)
            both = self.encode("\n" + text, add_special=False)
            if both[: len(before)] == before:
                return both[len(before) :]
        return self.encode(text, add_special=False)

    def script_ids(self, script: Script) -> list[int]:
        """Return the ids to force for ``script``: its text, the EOS, the text after it."""
        ids = self.continuation(script.text)
        if script.eos is not None:
            ids.append(self.ends[script.eos])
        return ids + (self.encode(script.after, add_special=False) if script.after else [])

    def visible(self, ids: Sequence[int]) -> str:
        """Return the text of ids as users get it, without control tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids with all their tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def answers(self, case: Case) -> dict[str, Any]:
        """Return the computed golden fields of a case, in the order of the file."""
        found: dict[str, Any] = {}
        if case.golden.refused is not None:
            return found
        if case.stage in ("template", "tokenize") and case.messages is not None:
            found["prompt_text"] = self.render(case.messages, case.tools, case.template_options)
        if case.stage == "tokenize" and case.messages is not None:
            found["prompt_ids"] = self.encode(found["prompt_text"], add_special=False)
        if case.stage == "tokenize" and case.text is not None:
            found["prompt_ids"] = self.encode(case.text, add_special=True)
        if case.script is not None:
            found["script_ids"] = self.script_ids(case.script)
        return found

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        path = self.folder / "tokenizer.json"
        try:
            found = Tokenizer.from_file(str(path))
        except Exception as error:  # the tokenizers library raises plain Exception
            raise UserError(
                f"the tokenizer cannot be read: {error}",
                where=str(path),
                fix="give a tokenizer.json that the tokenizers library reads",
            ) from error
        found.no_truncation()
        found.no_padding()
        return found

    @cached_property
    def _begins_with_space(self) -> bool:
        one = self.encode("a", add_special=False)
        return self.decode([*one, *one]) not in ("aa", self.decode(one) * 2)

    def _end_ids(self) -> list[int]:
        """Return the EOS set in ascending order; ``eos:`` of a script is an index into it."""
        for name in ("generation_config.json", "config.json"):
            path = self.folder / name
            found = read_object(path).get("eos_token_id")
            ids = found if isinstance(found, list) else [] if found is None else [found]
            if not all(type(i) is int and i >= 0 for i in ids):
                raise UserError(f"eos_token_id is {found!r}, not token ids", where=str(path))
            if ids:
                return sorted(set(ids))
        named = self._tokenizer.token_to_id(self.templates.specials.get("eos_token", ""))
        return [] if named is None else [named]


def is_texts_digest(golden_for: str) -> bool:
    """Whether a suite's ``golden_for`` names texts, and not a folder in ``suites/``."""
    return golden_for.startswith(f"{_TAG}:")


def texts_digest(folder: Path) -> str:
    """Return the digest of a model folder's texts (``x1:…``); see :attr:`ModelFiles.digest`.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    return ModelFiles(folder).digest


def _plain(message: dict[str, Any]) -> dict[str, str]:
    """Return the content of a message as text if it is one text part, else nothing.

    Raises:
        UserError: there are several parts; it is undefined how templates join them.
    """
    parts = message.get("content")
    if not isinstance(parts, list):
        return {}
    if len(parts) != 1 or parts[0].get("type") != "text":
        raise UserError("content in parts must be one part of text", fix="write it as text")
    return {"content": parts[0]["text"]}
