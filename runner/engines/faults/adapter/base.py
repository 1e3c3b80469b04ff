"""The frame of all faults in an adapter: each replaces the abilities that it harms."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from runner.engines.abilities import (
    Adapter,
    Ask,
    Generate,
    template_of,
    tokenizer_of,
    vocabulary_of,
)
from runner.engines.base import Reply, Request


@dataclass(frozen=True)
class AdapterMutationOptions:
    """How strongly a fault acts and where; what is left out is the fault's own choice."""

    by: float | None = None
    first: int | None = None
    last: int | None = None
    seed: int = 0
    stream: bool = False


class AdapterMutation(ABC):
    """One known fault of one loaded engine."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Abilities and scenarios that the engine must have: the fault works on them."""
    strength: ClassVar[float] = 1.0
    """``by`` where none is given."""

    def __init__(self, adapter: Adapter, options: AdapterMutationOptions) -> None:
        self.inner, self.options = adapter, options
        self.by = self.strength if options.by is None else options.by

    @abstractmethod
    def applied(self) -> Adapter:
        """Return the adapter with the harmed abilities in their place."""

    def text_of(self, ids: Sequence[int]) -> str:
        """Return the text of ids, specials shown, as the engine itself decodes them."""
        return vocabulary_of(self.inner).text_of(ids)


class ChatMutation(AdapterMutation):
    """The chat path is harmed."""

    @abstractmethod
    def chat(self, request: Request) -> Reply:
        """Return what the user receives."""

    def applied(self) -> Adapter:
        return replace(self.inner, chat=self.chat)


class RewrittenReply(ChatMutation):
    """The chat path's reply is changed after the engine has made it."""

    @abstractmethod
    def rewritten(self, request: Request, reply: Reply) -> Reply:
        """Return what the user receives instead."""

    def chat(self, request: Request) -> Reply:
        return self.rewritten(request, self.inner.chat(request))


def prompt_of(adapter: Adapter, request: Request) -> list[int]:
    """Return the ids with which this request's generation starts."""
    if request.prompt_ids is not None:
        return list(request.prompt_ids)
    text = request.prompt_text
    if text is None:
        text = template_of(adapter).render(request)
    return tokenizer_of(adapter).encode_chat(text)


def answering_with(adapter: Adapter, generate: Generate) -> Ask:
    """Return a chat path that takes its tokens from ``generate``: what harms this harms the chat.

    The answer is forced through the engine's own loop: stop handling, detokenizer and parser are
    the engine's.
    """

    def chat(request: Request) -> Reply:
        if request.script is not None:
            return adapter.chat(request)
        prompt = prompt_of(adapter, request)
        answer = generate(prompt, {"temperature": 0.0}, request.max_tokens, None)
        return adapter.chat(replace(request, prompt_ids=prompt, script=answer))

    return chat


def with_text(reply: Reply, text: str) -> Reply:
    """Return a reply with another text; the message follows where it only repeats the text."""
    message = reply.message
    if message is not None and (message.get("content") or "") == reply.text:
        message = {**message, "content": text}
    return replace(reply, text=text, message=message)


def message_rewritten(change: Callable[[dict[str, Any]], dict[str, Any]], reply: Reply) -> Reply:
    """Return a reply whose message was changed; one without a message stays as it is."""
    return reply if reply.message is None else replace(reply, message=change(dict(reply.message)))
