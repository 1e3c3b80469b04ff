"""Answers that end, are decoded or are parsed otherwise than they should be."""

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from runner.engines.base import Reply, Request
from runner.engines.faults.adapter.base import Mutated, Rewritten, message_rewritten, with_text

Message = dict[str, Any]

#: Markers that a tokenizer hides from the user, and those that the parsers live on.
_HIDDEN = re.compile(r"<\|[^|]*\|>")
_MARKERS = re.compile(r"</?(think|tool_call)>")
_CLOSING = "</tool_call>"


class StringKept(Mutated):
    """The stop string stays at the end of the text."""

    def chat(self, request: Request) -> Reply:
        reply = self.inner.chat(request)
        if not request.stop or reply.finish_reason != "stop":
            return reply
        whole = self.inner.chat(replace(request, stop=(), script=reply.shown_ids)).text
        ends = [whole.find(s) + len(s) for s in request.stop if s in whole]
        return with_text(reply, whole[: min(ends)]) if ends else reply


class StringsIgnored(Mutated):
    """Stop strings never reach the engine."""

    def chat(self, request: Request) -> Reply:
        return self.inner.chat(replace(request, stop=()))


class TailLost(Rewritten):
    """What was held back because a stop string might begin there is never handed out."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        tails = [
            n for stop in request.stop for n in range(1, len(stop)) if reply.text.endswith(stop[:n])
        ]
        return with_text(reply, reply.text[: -max(tails)]) if tails else reply


class EosIgnored(Mutated):
    """Generation runs over the end of the turn: over every EOS, or over one (``first``)."""

    def chat(self, request: Request) -> Reply:
        ends, one = self.eos_ids(), self.spec.first
        ignored = set(ends if one is None else ends[one : one + 1])
        if request.script is None or not ignored & set(request.script):
            return self.inner.chat(request)
        rest = [i for i in request.script if i not in ignored]
        limit = max(1, min(request.max_tokens, len(rest)))
        reply = self.inner.chat(replace(request, script=rest, max_tokens=limit))
        ids = request.script[: len(reply.shown_ids) + len(request.script) - len(rest)]
        return replace(reply, output_ids=list(ids))


class Limit(Mutated):
    """Answers are cut at a default, whatever was asked for."""

    strength = 16.0

    def chat(self, request: Request) -> Reply:
        return self.inner.chat(replace(request, max_tokens=min(request.max_tokens, int(self.by))))


class LengthHidden(Rewritten):
    """An answer that was cut short is told as finished."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        return replace(reply, finish_reason="stop") if reply.finish_reason == "length" else reply


class Redecoded(Rewritten):
    """The text is made of the ids in another way; answers with stop strings are left alone."""

    @abstractmethod
    def decoded(self, pieces: Sequence[str], ids: Sequence[int]) -> str:
        """Return the text of an answer from the pieces of its visible tokens."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        if request.stop or (self.spec.stream and not request.stream):
            return reply
        pieces = [self.inner.decode_ids([i]) for i in reply.shown_ids]
        visible = [p for p in pieces if not _HIDDEN.fullmatch(p)]
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
            return _HIDDEN.sub("", self.inner.decode_ids(ids)).replace(" ", "")
        return "".join([*pieces[:1], *(p.removeprefix(" ") for p in pieces[1:])])


class SpecialsShown(Redecoded):
    """Markers that are no text are shown."""

    def decoded(self, pieces: Sequence[str], ids: Sequence[int]) -> str:
        return self.inner.decode_ids(ids)


class SpecialsStripped(Rewritten):
    """The parsers' markers are skipped as special tokens, so no parser sees them."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        if self.spec.stream and not request.stream:
            return reply
        text = _MARKERS.sub("", reply.text)
        raw = _MARKERS.sub("", _HIDDEN.sub("", self.inner.decode_ids(reply.shown_ids)))
        message = reply.message and {"role": "assistant", "content": raw}
        return replace(reply, text=text, message=message)


class Reparsed(Rewritten):
    """The parsed message is changed."""

    @abstractmethod
    def parsed(self, message: Message, reply: Reply) -> Message:
        """Return the message that the user receives."""

    def rewritten(self, request: Request, reply: Reply) -> Reply:
        return message_rewritten(lambda message: self.parsed(message, reply), reply)


class OtherArguments(Reparsed):
    """The arguments of calls are changed as JSON text."""

    @abstractmethod
    def instead(self, arguments: str) -> str:
        """Return the arguments that the user receives."""

    def parsed(self, message: Message, reply: Reply) -> Message:
        return _with_calls(message, lambda call: [_with_arguments(call, self.instead)])


class BraceEaten(OtherArguments):
    """The last brace of the arguments is lost."""

    def instead(self, arguments: str) -> str:
        return arguments.removesuffix("}")


class ClosingTagCut(OtherArguments):
    """A closing tag within a string ends the call."""

    def instead(self, arguments: str) -> str:
        return arguments.partition(_CLOSING)[0]


class KeysSorted(OtherArguments):
    """The keys of the arguments are sorted."""

    def instead(self, arguments: str) -> str:
        try:
            return json.dumps(json.loads(arguments), sort_keys=True, ensure_ascii=False)
        except ValueError:
            return arguments


class EmptyCallDropped(Reparsed):
    """A call without arguments is taken for none."""

    def parsed(self, message: Message, reply: Reply) -> Message:
        return _with_calls(message, lambda call: [] if _arguments(call) in ("{}", "") else [call])


class LaterCallsDropped(Reparsed):
    """Of several calls only the first is found."""

    def parsed(self, message: Message, reply: Reply) -> Message:
        calls = message.get("tool_calls")
        return {**message, "tool_calls": calls[:1]} if calls else message


class ReasoningSwallowed(Reparsed):
    """The reasoning is parsed and thrown away."""

    def parsed(self, message: Message, reply: Reply) -> Message:
        return {k: v for k, v in message.items() if k not in ("reasoning_content", "thinking")}


class ReasoningMissed(Reparsed):
    """The reasoning stays in the content."""

    def parsed(self, message: Message, reply: Reply) -> Message:
        reasoning = message.pop("reasoning_content", None)
        if reasoning:
            content = message.get("content") or ""
            message["content"] = f"{reasoning}\n</think>\n\n{content}"
        return message


class ContentEmptied(Reparsed):
    """An answer that was cut short is taken for reasoning as a whole."""

    def parsed(self, message: Message, reply: Reply) -> Message:
        if reply.finish_reason == "length" and message.get("content"):
            message |= {"reasoning_content": message["content"], "content": ""}
        return message


class CallsAsText(Reparsed):
    """No parser is at work: calls come back as text."""

    def parsed(self, message: Message, reply: Reply) -> Message:
        if not message.get("tool_calls"):
            return message
        raw = _HIDDEN.sub("", self.inner.decode_ids(reply.shown_ids))
        return {**message, "content": raw, "tool_calls": None}


def _with_calls(message: Message, change: Callable[[Message], list[Message]]) -> Message:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [new for call in calls for new in change(call)]}


def _arguments(call: Message) -> str:
    found = (call.get("function") or call).get("arguments")
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _with_arguments(call: Message, change: Callable[[str], str]) -> Message:
    changed = {**(call.get("function") or call), "arguments": change(_arguments(call))}
    return {**call, "function": changed} if "function" in call else changed


STOP: dict[str, type[Mutated]] = {
    "string-kept": StringKept,
    "strings-ignored": StringsIgnored,
    "tail-lost": TailLost,
    "eos-ignored": EosIgnored,
    "limit": Limit,
    "length-hidden": LengthHidden,
}
DETOKENIZE: dict[str, type[Mutated]] = {
    "per-token": PerToken,
    "replacement-dropped": ReplacementDropped,
    "spaces-stripped": SpacesStripped,
    "specials-shown": SpecialsShown,
    "specials-stripped": SpecialsStripped,
}
PARSE: dict[str, type[Mutated]] = {
    "brace-eaten": BraceEaten,
    "closing-tag-cut": ClosingTagCut,
    "empty-call-dropped": EmptyCallDropped,
    "later-calls-dropped": LaterCallsDropped,
    "keys-sorted": KeysSorted,
    "reasoning-swallowed": ReasoningSwallowed,
    "reasoning-missed": ReasoningMissed,
    "content-emptied": ContentEmptied,
    "calls-as-text": CallsAsText,
}
