"""A user's own prompts: a short file, from which cases of four stages are made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from suites.derive.conversations import system, user
from suites.derive.source import Source
from suites.errors import UserError
from suites.loading import load_document
from suites.mistakes import Mistake
from suites.suite import Case, Frozen, Golden, JsonObject


class Prompt(Frozen):
    """One prompt of a product."""

    id: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_-]{0,49}$")
    """Name of its cases; by default its number."""
    system: str | None = None
    """The system message, if there is one."""
    user: str | None = None
    """The question."""
    messages: tuple[JsonObject, ...] | None = Field(default=None, min_length=1)
    """A whole conversation, instead of ``system`` and ``user``."""
    tools: tuple[JsonObject, ...] | None = None
    """Tool definitions as in OpenAI's API."""
    template_options: JsonObject = Field(default_factory=dict)
    """Options of the chat template, such as ``enable_thinking``."""
    max_tokens: int = Field(default=32, ge=1, le=512)
    """Tokens of the answer that are compared."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if (self.user is None) == (self.messages is None):
            raise ValueError("a prompt needs either `user:` (and `system:`) or `messages:`")
        if self.messages is not None and self.system is not None:
            raise ValueError("write the system message into `messages:`")
        return self

    @property
    def conversation(self) -> tuple[JsonObject, ...]:
        """The messages of the request."""
        if self.messages is not None:
            return self.messages
        before = () if self.system is None else (system(self.system),)
        return (*before, user(self.user or ""))


class Prompts(Frozen):
    """A file of prompts."""

    prompts: tuple[Prompt, ...] = Field(min_length=1)
    """The prompts, in the order of their cases."""


def prompt_cases(source: Source, path: Path) -> Iterator[Case]:
    """Yield for each prompt a case of template, tokenize, logits and chain.

    Raises:
        UserError: the file is wrong, with line and nearest key; or the template refuses a prompt.
    """
    found, document = load_document(path, Prompts)
    names: set[str] = set()
    for at, prompt in enumerate(found.prompts):
        name = prompt.id or f"{at + 1}"
        key = ("prompts", at)
        if name in names:
            raise document.error(Mistake((*key, "id"), f"two prompts have the id {name!r}"))
        names.add(name)
        try:
            yield from _cases(source, prompt, name)
        except UserError as error:
            raise UserError(
                error.what, where=document.where(key), known=error.known, fix=error.fix
            ) from error


def _cases(source: Source, prompt: Prompt, name: str) -> Iterator[Case]:
    messages = prompt.conversation
    text = source.files.render(messages, prompt.tools, prompt.template_options)
    ids = source.files.encode(text, add_special=False)
    if len(ids) + prompt.max_tokens > source.context:
        raise UserError(
            f"the prompt has {len(ids)} tokens, and with the answer it is longer than the context "
            f"of {source.context} tokens",
            fix="shorten the prompt, lower its max_tokens, or serve a longer context",
        )
    golden = {
        "template": Golden(prompt_text=text),
        "tokenize": Golden(prompt_text=text, prompt_ids=tuple(ids)),
    }
    for stage in ("template", "tokenize", "logits", "chain"):
        yield Case.model_validate(
            {
                "id": f"{stage}/own-{name}",
                "stage": stage,
                "tags": ("own",),
                "messages": messages,
                "tools": prompt.tools,
                "template_options": prompt.template_options,
                "max_tokens": prompt.max_tokens,
                "golden": golden.get(stage, Golden()),
            }
        )
