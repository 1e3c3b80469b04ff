"""An adapter around an adapter: hands everything on, so that a mutation says only what it harms."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from runner.engines.base import Adapter, Logits, Reply, Request


@dataclass(frozen=True)
class Spec:
    """How a mutation is to act; what is left out is the mutation's own choice."""

    by: float | None = None
    first: int | None = None
    last: int | None = None
    seed: int = 0
    stream: bool = False


class Mutated(Adapter):
    """Every method of the adapter inside, unharmed."""

    strength: ClassVar[float] = 1.0
    """``by`` where none is given."""

    def __init__(self, inner: Adapter, spec: Spec) -> None:
        self.inner, self.spec = inner, spec
        self.by = self.strength if spec.by is None else spec.by
        self.loaded, self.shown = inner.loaded, inner.shown

    def facts(self) -> dict[str, Any]:
        return self.inner.facts()

    def render(self, request: Request) -> str:
        return self.inner.render(request)

    def encode_chat(self, prompt_text: str) -> list[int]:
        return self.inner.encode_chat(prompt_text)

    def encode_text(self, text: str) -> list[int]:
        return self.inner.encode_text(text)

    def encode_output(self, text: str) -> list[int]:
        return self.inner.encode_output(text)

    def decode_ids(self, ids: Sequence[int]) -> str:
        return self.inner.decode_ids(ids)

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        return self.inner.prefill(ids, cold=cold)

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        return self.inner.decode(prompt, output)

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        return self.inner.batch(sequences)

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        return self.inner.chunked(ids, size)

    def chunk_size(self, asked: int | None) -> int | None:
        return self.inner.chunk_size(asked)

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        return self.inner.warm(earlier, ids)

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        return self.inner.reused(earlier, ids)

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        return self.inner.serve(prompts, slots, max_tokens)

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        return self.inner.draw(prompt, asked, n, seed)

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        return self.inner.generate(prompt, asked, max_tokens, seed)

    def chat(self, request: Request) -> Reply:
        return self.inner.chat(request)

    def eos_ids(self) -> list[int]:
        return self.inner.eos_ids()

    def prompt_of(self, request: Request) -> list[int]:
        """Return the ids with which this request's generation starts."""
        if request.prompt_ids is not None:
            return list(request.prompt_ids)
        text = request.prompt_text
        return self.encode_chat(self.render(request) if text is None else text)


class OwnAnswers(Mutated):
    """The chat path takes its tokens from ``generate``, so that what harms this harms the chat.

    The answer is forced through the engine's own loop: stop handling, detokenizer and parser are
    the engine's.
    """

    def chat(self, request: Request) -> Reply:
        if request.script is not None:
            return self.inner.chat(request)
        prompt = self.prompt_of(request)
        answer = self.generate(prompt, {"temperature": 0.0}, request.max_tokens, None)
        return self.inner.chat(replace(request, prompt_ids=prompt, script=answer))


class Rewritten(Mutated):
    """The chat path's reply is changed after the engine has made it."""

    @abstractmethod
    def rewritten(self, request: Request, reply: Reply) -> Reply:
        """Return what the user receives instead."""

    def chat(self, request: Request) -> Reply:
        return self.rewritten(request, self.inner.chat(request))


def with_text(reply: Reply, text: str) -> Reply:
    """Return a reply with another text; the message follows where it only repeats the text."""
    message = reply.message
    if message is not None and (message.get("content") or "") == reply.text:
        message = {**message, "content": text}
    return replace(reply, text=text, message=message)


def message_rewritten(change: Callable[[dict[str, Any]], dict[str, Any]], reply: Reply) -> Reply:
    """Return a reply whose message was changed; one without a message stays as it is."""
    return reply if reply.message is None else replace(reply, message=change(dict(reply.message)))
