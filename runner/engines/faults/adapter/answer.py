"""Answers that end at the wrong place, or are decoded wrongly."""

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from runner.engines.abilities import vocabulary_of
from runner.engines.base import Reply, Request
from runner.engines.faults.adapter.base import (
    AdapterMutation,
    ChatMutation,
    RewrittenReply,
    with_text,
)

#: Markers that a tokenizer hides from the user; and those that the parsers live on.
HIDDEN_MARKERS = re.compile(r"<\|[^|]*\|>")
_MARKERS = re.compile(r"</?(think|tool_call)>")


class StringKept(ChatMutation):
    """The stop string stays at the end of the text."""

    def chat(self, request: Request) -> Reply:
        reply = self.inner.chat(request)
        if not request.stop or reply.finish_reason != "stop":
            return reply
        whole = self.inner.chat(replace(request, stop=(), script=reply.shown_ids)).text
        ends = [whole.find(s) + len(s) for s in request.stop if s in whole]
        return with_text(reply, whole[: min(ends)]) if ends else reply


class StringsIgnored(ChatMutation):
    """Stop strings never reach the engine."""

    def chat(self, request: Request) -> Reply:
        return self.inner.chat(replace(request, stop=()))


class TailLost(RewrittenReply):
    """What was held back because a stop string might begin there is never handed out."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        tails = [
            n for stop in request.stop for n in range(1, len(stop)) if reply.text.endswith(stop[:n])
        ]
        return with_text(reply, reply.text[: -max(tails)]) if tails else reply


class EosIgnored(ChatMutation):
    """Generation runs over the end of the turn: over every EOS, or over one (``first``)."""

    needs = ("vocabulary",)

    def chat(self, request: Request) -> Reply:
        ends, one = vocabulary_of(self.inner).eos_ids(), self.options.first
        ignored = set(ends if one is None else ends[one : one + 1])
        if request.script is None or not ignored & set(request.script):
            return self.inner.chat(request)
        rest = [i for i in request.script if i not in ignored]
        limit = max(1, min(request.max_tokens, len(rest)))
        reply = self.inner.chat(replace(request, script=rest, max_tokens=limit))
        ids = request.script[: len(reply.shown_ids) + len(request.script) - len(rest)]
        return replace(reply, output_ids=list(ids))


class Limit(ChatMutation):
    """Answers are cut at a default, whatever was asked for."""

    strength = 16.0

    def chat(self, request: Request) -> Reply:
        return self.inner.chat(replace(request, max_tokens=min(request.max_tokens, int(self.by))))


class LengthHidden(RewrittenReply):
    """An answer that was cut short is reported as finished."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        return replace(reply, finish_reason="stop") if reply.finish_reason == "length" else reply


class Redecoded(RewrittenReply):
    """The text is made of the ids in another way; answers with stop strings are left alone."""

    needs = ("vocabulary",)

    @abstractmethod
    def decoded(self, pieces: Sequence[str], ids: Sequence[int]) -> str:
        """Return the text of an answer from the pieces of its visible tokens."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        if request.stop or (self.options.stream and not request.stream):
            return reply
        pieces = [self.text_of([i]) for i in reply.shown_ids]
        visible = [p for p in pieces if not HIDDEN_MARKERS.fullmatch(p)]
        return with_text(reply, self.decoded(visible, reply.shown_ids))


class PerToken(Redecoded):
    """Each token is decoded alone."""

    def decoded(self, pieces: Sequence[str], ids: Sequence[int]) -> str:
        return "".join(pieces)


class ReplacementDropped(Redecoded):
    """Each token is decoded alone, and what is no whole character is thrown away."""

    def decoded(self, pieces: Sequence[str], ids: Sequence[int]) -> str:
        return "".join(pieces).replace("\ufffd", "")


class SpacesStripped(Redecoded):
    """The leading space of each piece is taken for a tokenizer's own."""

    def decoded(self, pieces: Sequence[str], ids: Sequence[int]) -> str:
        whole = "".join(pieces)
        if "\ufffd" in whole:
            # The engine's own text would be lost with the pieces: only whole characters are known.
            return HIDDEN_MARKERS.sub("", self.text_of(ids)).replace(" ", "")
        return "".join([*pieces[:1], *(p.removeprefix(" ") for p in pieces[1:])])


class SpecialsShown(Redecoded):
    """Markers that are no text are shown."""

    def decoded(self, pieces: Sequence[str], ids: Sequence[int]) -> str:
        return self.text_of(ids)


class SpecialsStripped(RewrittenReply):
    """The parsers' markers are skipped as special tokens, so no parser sees them."""

    needs = ("vocabulary",)

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        if self.options.stream and not request.stream:
            return reply
        text = _MARKERS.sub("", reply.text)
        raw = _MARKERS.sub("", HIDDEN_MARKERS.sub("", self.text_of(reply.shown_ids)))
        message = reply.message and {"role": "assistant", "content": raw}
        return replace(reply, text=text, message=message)


STOP: dict[str, type[AdapterMutation]] = {
    "string-kept": StringKept,
    "strings-ignored": StringsIgnored,
    "tail-lost": TailLost,
    "eos-ignored": EosIgnored,
    "limit": Limit,
    "length-hidden": LengthHidden,
}
DETOKENIZE: dict[str, type[AdapterMutation]] = {
    "per-token": PerToken,
    "replacement-dropped": ReplacementDropped,
    "spaces-stripped": SpacesStripped,
    "specials-shown": SpecialsShown,
    "specials-stripped": SpecialsStripped,
}
