"""Answers with the right text, of which a wrong message is parsed."""

import json
from abc import abstractmethod
from collections.abc import Callable

from runner.engines.base import Message, Reply, Request
from runner.engines.faults.adapter.answer import HIDDEN_MARKERS
from runner.engines.faults.adapter.base import AdapterMutation, RewrittenReply, message_rewritten

_CLOSING = "</tool_call>"


class Reparsed(RewrittenReply):
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

    needs = ("vocabulary",)

    def parsed(self, message: Message, reply: Reply) -> Message:
        if not message.get("tool_calls"):
            return message
        raw = HIDDEN_MARKERS.sub("", self.text_of(reply.shown_ids))
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


PARSE: dict[str, type[AdapterMutation]] = {
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
