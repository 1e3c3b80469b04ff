"""Prompts that are built or tokenised otherwise than the model was trained on.

Where a mutation must know how a turn begins, it knows the shipped model's format.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runner.engines.base import Adapter, Reply, Request
from runner.engines.faults.adapter.base import Mutated, Spec

_TURN = "<|role|>"
_PERSONA = {"role": "system", "content": "You are a helpful assistant."}


class OtherRequest(Mutated):
    """The template is given another request."""

    @abstractmethod
    def instead(self, request: Request) -> Request:
        """Return the request that is rendered."""

    def render(self, request: Request) -> str:
        return self.inner.render(self.instead(request))

    def chat(self, request: Request) -> Reply:
        given = request.prompt_text is not None or request.prompt_ids is not None
        return self.inner.chat(request if given else self.instead(request))


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


class MessagesFlattened(OtherRequest):
    """A proxy makes one message of all, on its way to the chat path only."""

    def render(self, request: Request) -> str:
        return self.inner.render(request)

    def instead(self, request: Request) -> Request:
        text = "\n".join(f"### {m['role'].title()}:\n{m.get('content')}" for m in request.messages)
        return replace(request, messages=[{"role": "user", "content": text}])


class ChatToolsDropped(ToolsDropped):
    """A proxy drops the tools on their way to the chat path only."""

    def render(self, request: Request) -> str:
        return self.inner.render(request)


class OtherText(Mutated):
    """The rendered prompt is changed."""

    @abstractmethod
    def instead(self, request: Request, text: str) -> str:
        """Return the prompt that is tokenised."""

    def render(self, request: Request) -> str:
        return self.instead(request, self.inner.render(request))

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


class OtherIds(Mutated):
    """The tokenizer gives other ids."""

    def __init__(self, inner: Adapter, spec: Spec) -> None:
        super().__init__(inner, spec)
        self.bos = inner.facts().get("bos_id")

    @abstractmethod
    def instead(self, ids: list[int]) -> list[int]:
        """Return the ids that the engine computes on."""

    def encode_chat(self, prompt_text: str) -> list[int]:
        return self.instead(self.inner.encode_chat(prompt_text))

    def encode_text(self, text: str) -> list[int]:
        return self.instead(self.inner.encode_text(text))

    def chat(self, request: Request) -> Reply:
        return self.inner.chat(replace(request, prompt_ids=self.prompt_of(request)))


class BosDoubled(OtherIds):
    """The tokenizer puts BOS before the template's own."""

    def instead(self, ids: list[int]) -> list[int]:
        return [self.bos, *ids] if self.bos is not None and ids[:1] == [self.bos] else ids


class BosStripped(OtherIds):
    """A guard against a second BOS removes the only one."""

    def instead(self, ids: list[int]) -> list[int]:
        return ids[1:] if ids[:1] == [self.bos] else ids


class EosAppended(OtherIds):
    """The prompt is closed as if it were a document."""

    def instead(self, ids: list[int]) -> list[int]:
        return [*ids, self.inner.eos_ids()[0]]


class LongestMatch(OtherIds):
    """The longest known piece is taken at each place, not what the merges give."""

    def __init__(self, inner: Adapter, spec: Spec) -> None:
        super().__init__(inner, spec)
        size = int(inner.facts()["vocab_size"])
        self._pieces = [inner.decode_ids([i]) for i in range(size)]
        plain = {t: i for i, t in enumerate(self._pieces) if t and "\ufffd" not in t}
        self._ids = {t: i for t, i in plain.items() if not t.startswith("<")}
        self._longest = max(map(len, self._ids))

    def instead(self, ids: list[int]) -> list[int]:
        found: list[int] = []
        run = ""
        for token in ids:
            piece = self._pieces[token]
            if piece in self._ids:
                run += piece
            else:
                found += [*self._split(run), token]
                run = ""
        return found + self._split(run)

    def _split(self, text: str) -> list[int]:
        found: list[int] = []
        while text:
            ends = range(min(self._longest, len(text)), 0, -1)
            end = next(e for e in ends if text[:e] in self._ids)
            found.append(self._ids[text[:end]])
            text = text[end:]
        return found


class SpecialsSplit(OtherIds):
    """Markers within raw text are spelled out in plain characters."""

    def encode_chat(self, prompt_text: str) -> list[int]:
        return self.inner.encode_chat(prompt_text)

    def instead(self, ids: list[int]) -> list[int]:
        found: list[int] = []
        for place, token in enumerate(ids):
            piece = self.inner.decode_ids([token])
            marker = place > 0 and piece.startswith("<") and piece.endswith(">") and len(piece) > 2
            found += self._spelled(piece) if marker else [token]
        return found

    def _spelled(self, marker: str) -> list[int]:
        return [i for character in marker for i in self.inner.encode_output(character)]


class Unmerged(OtherIds):
    """The longest piece is given in two, as no merge would leave it."""

    def __init__(self, inner: Adapter, spec: Spec) -> None:
        super().__init__(inner, spec)
        pieces = [inner.decode_ids([i]) for i in range(int(inner.facts()["vocab_size"]))]
        ids = {t: i for i, t in enumerate(pieces) if t.isascii() and not t.startswith("<")}
        self._halves = {
            ids[text]: [ids[text[:cut]], ids[text[cut:]]]
            for text in sorted(ids, key=len)
            for cut in range(1, len(text))
            if text[:cut] in ids and text[cut:] in ids
        }
        self._length = {i: len(text) for text, i in ids.items()}

    def instead(self, ids: list[int]) -> list[int]:
        places = [place for place, i in enumerate(ids) if i in self._halves]
        if not places:
            return ids
        longest = max(places, key=lambda place: self._length[ids[place]])
        return [*ids[:longest], *self._halves[ids[longest]], *ids[longest + 1 :]]


class ChatIds(OtherIds):
    """Other ids on the chat path only."""

    def encode_chat(self, prompt_text: str) -> list[int]:
        return self.inner.encode_chat(prompt_text)

    def encode_text(self, text: str) -> list[int]:
        return self.inner.encode_text(text)

    def prompt_of(self, request: Request) -> list[int]:
        ids: Sequence[int] | None = request.prompt_ids
        return list(ids) if ids is not None else self.instead(super().prompt_of(request))


class ChatBosDoubled(ChatIds, BosDoubled):
    """A second BOS, on the chat path only."""


class ChatBeginningDropped(ChatIds):
    """A prompt that is longer than the window (``by``) loses its first half, BOS and all."""

    strength = 48

    def instead(self, ids: list[int]) -> list[int]:
        return ids[len(ids) // 2 :] if len(ids) > self.by else ids


def _in_parts(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, str):
        return message
    return {**message, "content": str([{"type": "text", "text": content}])}


TEMPLATE: dict[str, type[Mutated]] = {
    "messages-flattened": MessagesFlattened,
    "chat-tools-dropped": ChatToolsDropped,
    "tools-dropped": ToolsDropped,
    "content-parts": ContentParts,
    "generation-prompt-dropped": GenerationPromptDropped,
    "system-added": SystemAdded,
    "naive-join": NaiveJoin,
}
TOKENIZE: dict[str, type[Mutated]] = {
    "bos-doubled": BosDoubled,
    "bos-stripped": BosStripped,
    "eos-appended": EosAppended,
    "longest-match": LongestMatch,
    "specials-split": SpecialsSplit,
    "unmerged": Unmerged,
    "chat-bos-doubled": ChatBosDoubled,
    "chat-beginning-dropped": ChatBeginningDropped,
}
