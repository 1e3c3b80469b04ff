"""Prompts that get other ids than those that the model was trained on."""

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

from runner.engines.abilities import Adapter, Tokenizer, Vocabulary, tokenizer_of, vocabulary_of
from runner.engines.base import Reply, Request
from runner.engines.faults.adapter.base import (
    AdapterMutation,
    AdapterMutationOptions,
    ChatMutation,
    prompt_of,
)


class OtherChatIds(ChatMutation):
    """The chat path computes on other ids; the tokenizer by itself is right."""

    needs: ClassVar[tuple[str, ...]] = ("template", "tokenizer")

    def __init__(self, adapter: Adapter, options: AdapterMutationOptions) -> None:
        super().__init__(adapter, options)
        self.bos = adapter.facts().get("bos_id")

    @abstractmethod
    def instead(self, ids: list[int]) -> list[int]:
        """Return the ids that the engine computes on."""

    def chat(self, request: Request) -> Reply:
        ids = request.prompt_ids
        if ids is None:
            ids = self.instead(prompt_of(self.inner, request))
        return self.inner.chat(replace(request, prompt_ids=list(ids)))

    @property
    def tokenizer(self) -> Tokenizer:
        """The engine's own."""
        return tokenizer_of(self.inner)

    @property
    def vocabulary(self) -> Vocabulary:
        """The engine's own."""
        return vocabulary_of(self.inner)


class OtherIds(OtherChatIds):
    """The tokenizer gives other ids, by itself and on the chat path."""

    def encode_chat(self, prompt_text: str) -> list[int]:
        """Return the harmed ids of a rendered prompt."""
        return self.instead(self.tokenizer.encode_chat(prompt_text))

    def encode_text(self, text: str) -> list[int]:
        """Return the harmed ids of raw text."""
        return self.instead(self.tokenizer.encode_text(text))

    def applied(self) -> Adapter:
        return replace(self.inner, tokenizer=self, chat=self.chat)


class BosDoubled(OtherIds):
    """The tokenizer puts BOS before the template's own."""

    def instead(self, ids: list[int]) -> list[int]:
        return _with_second_bos(ids, self.bos)


class BosStripped(OtherIds):
    """A guard against a second BOS removes the only one."""

    def instead(self, ids: list[int]) -> list[int]:
        return ids[1:] if ids[:1] == [self.bos] else ids


class EosAppended(OtherIds):
    """The prompt is closed as if it were a document."""

    needs = ("template", "tokenizer", "vocabulary")

    def instead(self, ids: list[int]) -> list[int]:
        return [*ids, self.vocabulary.eos_ids()[0]]


class LongestMatch(OtherIds):
    """The longest known piece is taken at each place, not what the merges give."""

    needs = ("template", "tokenizer", "vocabulary")

    def __init__(self, adapter: Adapter, options: AdapterMutationOptions) -> None:
        super().__init__(adapter, options)
        size = int(adapter.facts()["vocab_size"])
        self._pieces = [self.vocabulary.text_of([i]) for i in range(size)]
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
    """Markers within raw text are spelled out in plain characters; chats keep theirs."""

    needs = ("template", "tokenizer", "vocabulary")

    def encode_chat(self, prompt_text: str) -> list[int]:
        return self.tokenizer.encode_chat(prompt_text)

    def applied(self) -> Adapter:
        return replace(self.inner, tokenizer=self)

    def instead(self, ids: list[int]) -> list[int]:
        found: list[int] = []
        for place, token in enumerate(ids):
            piece = self.vocabulary.text_of([token])
            marker = place > 0 and piece.startswith("<") and piece.endswith(">") and len(piece) > 2
            found += self._spelled(piece) if marker else [token]
        return found

    def _spelled(self, marker: str) -> list[int]:
        return [i for character in marker for i in self.vocabulary.ids_of(character)]


class Unmerged(OtherIds):
    """The longest piece is given in two, as no merge would leave it."""

    needs = ("template", "tokenizer", "vocabulary")

    def __init__(self, adapter: Adapter, options: AdapterMutationOptions) -> None:
        super().__init__(adapter, options)
        pieces = [self.vocabulary.text_of([i]) for i in range(int(adapter.facts()["vocab_size"]))]
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


class ChatBosDoubled(OtherChatIds):
    """A second BOS, on the chat path only."""

    def instead(self, ids: list[int]) -> list[int]:
        return _with_second_bos(ids, self.bos)


class ChatBeginningDropped(OtherChatIds):
    """A prompt that is longer than the window (``by``) loses its first half, BOS and all."""

    strength = 48

    def instead(self, ids: list[int]) -> list[int]:
        return ids[len(ids) // 2 :] if len(ids) > self.by else ids


def _with_second_bos(ids: list[int], bos: int | None) -> list[int]:
    return [bos, *ids] if bos is not None and ids[:1] == [bos] else ids


TOKENIZE: dict[str, type[AdapterMutation]] = {
    "bos-doubled": BosDoubled,
    "bos-stripped": BosStripped,
    "eos-appended": EosAppended,
    "longest-match": LongestMatch,
    "specials-split": SpecialsSplit,
    "unmerged": Unmerged,
    "chat-bos-doubled": ChatBosDoubled,
    "chat-beginning-dropped": ChatBeginningDropped,
}
