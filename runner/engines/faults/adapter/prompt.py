"""Prompts in another form than the one that the model was trained on.

Where a fault must know how a turn begins, it knows the shipped model's format.
"""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

from runner.engines.abilities import Adapter, template_of
from runner.engines.base import Reply, Request
from runner.engines.faults.adapter.base import AdapterMutation, ChatMutation

_TURN = "<|role|>"
_PERSONA = {"role": "system", "content": "You are a helpful assistant."}


class OtherChatRequest(ChatMutation):
    """The chat path is given another request; the template by itself is right."""

    @abstractmethod
    def instead(self, request: Request) -> Request:
        """Return the request that is rendered."""

    def chat(self, request: Request) -> Reply:
        given = request.prompt_text is not None or request.prompt_ids is not None
        return self.inner.chat(request if given else self.instead(request))


class OtherRequest(OtherChatRequest):
    """The template is given another request, by itself and on the chat path."""

    def render(self, request: Request) -> str:
        """Return the prompt text of the other request."""
        return template_of(self.inner).render(self.instead(request))

    def applied(self) -> Adapter:
        # A server may hide what its template makes: its chats are harmed all the same.
        template = None if self.inner.template is None else self
        return replace(self.inner, template=template, chat=self.chat)


class ToolsDropped(OtherRequest):
    """Tools never reach the template."""

    def instead(self, request: Request) -> Request:
        return replace(request, tools=None)


class ContentParts(OtherRequest):
    """Text is turned into a list of parts, which the template prints as it is."""

    def instead(self, request: Request) -> Request:
        return replace(request, messages=[_in_parts(m) for m in request.messages])


class SystemAdded(OtherRequest):
    """A default persona is put in front where there is no system message."""

    def instead(self, request: Request) -> Request:
        if request.messages and request.messages[0].get("role") == "system":
            return request
        return replace(request, messages=[_PERSONA, *request.messages])


class MessagesFlattened(OtherChatRequest):
    """A proxy makes one message of all, on its way to the chat path only."""

    def instead(self, request: Request) -> Request:
        text = "\n".join(f"### {m['role'].title()}:\n{m.get('content')}" for m in request.messages)
        return replace(request, messages=[{"role": "user", "content": text}])


class ChatToolsDropped(OtherChatRequest):
    """A proxy drops the tools on their way to the chat path only."""

    def instead(self, request: Request) -> Request:
        return replace(request, tools=None)


class OtherText(ChatMutation):
    """The rendered prompt is changed."""

    needs = ("template",)

    @abstractmethod
    def instead(self, request: Request, text: str) -> str:
        """Return the prompt that is tokenised."""

    def render(self, request: Request) -> str:
        """Return the changed prompt text."""
        rendered = template_of(self.inner).render(request)
        return self.instead(request, rendered)

    def applied(self) -> Adapter:
        return replace(self.inner, template=self, chat=self.chat)

    def chat(self, request: Request) -> Reply:
        given = request.prompt_text is not None or request.prompt_ids is not None
        changed = request if given else replace(request, prompt_text=self.render(request))
        return self.inner.chat(changed)


class GenerationPromptDropped(OtherText):
    """The prompt ends with the user's turn."""

    def instead(self, request: Request, text: str) -> str:
        return text[: text.rfind(_TURN)]


class NaiveJoin(OtherText):
    """Roles and contents are joined with no template at all."""

    def instead(self, request: Request, text: str) -> str:
        return "".join(f"{m['role']}: {m.get('content')}\n" for m in request.messages)


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, str):
        return message
    return {**message, "content": str([{"type": "text", "text": content}])}


TEMPLATE: dict[str, type[AdapterMutation]] = {
    "messages-flattened": MessagesFlattened,
    "chat-tools-dropped": ChatToolsDropped,
    "tools-dropped": ToolsDropped,
    "content-parts": ContentParts,
    "generation-prompt-dropped": GenerationPromptDropped,
    "system-added": SystemAdded,
    "naive-join": NaiveJoin,
}
