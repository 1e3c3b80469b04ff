"""What a task generator returns, and how instances are split into training and held-out ones."""

from __future__ import annotations

import enum
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]
"""A chat message as chat templates take it: role, content, tool_calls, reasoning_content."""

Tool = dict[str, Any]
"""A tool definition in the JSON form of the chat-completions API."""


@dataclass(frozen=True)
class Exchange:
    """A user message and everything up to the last assistant message that answers it.

    ``tasks`` names the task of each assistant message, in their order.
    """

    messages: list[Message]
    tasks: list[str]


class Split(enum.Enum):
    """Which instances of a task a generator may draw."""

    TRAIN = "train"
    HELD_OUT = "held out"
    ANY = "any"

    def admits(self, *key: object) -> bool:
        """Tell whether the instance named by ``key`` belongs to this split.

        A hash holds out one instance in ten, so the split needs no list and never changes.
        """
        held_out = zlib.crc32(repr(key).encode()) % 10 == 0
        return self is Split.ANY or held_out == (self is Split.HELD_OUT)


Generator = Callable[[random.Random, Split], Exchange]


def user(text: str) -> Message:
    """Make a user message."""
    return {"role": "user", "content": text}


def assistant(text: str, **extra: object) -> Message:
    """Make an assistant message; ``extra`` holds tool calls or reasoning."""
    return {"role": "assistant", "content": text, **extra}


def question(text: str, answer: str, task: str) -> Exchange:
    """Make the plainest exchange: one question and one answer."""
    return Exchange([user(text), assistant(answer)], [task])
