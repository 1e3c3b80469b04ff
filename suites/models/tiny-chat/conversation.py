"""Conversations as text: rendering, packing many turns into one row, and held-out cases.

Rendering repeats chat_template.jinja in Python, because a template engine would be slower than
the training step; evaluate.py checks that the two agree.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import tasks
import tools
from exchange import Exchange, Message, Split, Tool, question
from lexicon import NAMES, SYSTEM_PROMPTS

BOS: Final = "<|bos|>"
DOCUMENT_END: Final = "<|document_end|>"
TURN_END: Final = "<|turn_end|>"
ROLE: Final = "<|role|>"
BODY: Final = "<|body|>"

Encode = Callable[[str], list[int]]
"""Text to token ids, adding nothing."""


@dataclass(frozen=True)
class Segment:
    """A prompt and the answer the model should give to it, as text."""

    prompt: str
    answer: str
    task: str


@dataclass(frozen=True)
class Case:
    """One held-out instance: the last message is the answer, those before are the prompt."""

    task: str
    messages: list[Message]
    tools: list[Tool] | None
    thinking: bool


def render(messages: list[Message], tools_: list[Tool] | None, labels: list[str]) -> list[Segment]:
    """Render messages as alternating prompts and answers.

    ``labels`` names the task of each assistant message.  The opening ``<think>`` line belongs to
    the prompt, as it does when generating.
    """
    segments: list[Segment] = []
    prompt = ""
    if messages[0]["role"] == "system" or tools_:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        if tools_:
            lines = [json.dumps(tool["function"], ensure_ascii=False) for tool in tools_]
            system += ("\n\n" if system else "") + "\n".join(["Tools:", *lines])
        prompt = _open("system") + system + TURN_END
    for message in messages:
        if message["role"] == "assistant":
            prompt += _open("assistant")
            if message.get("reasoning_content"):
                prompt += "<think>\n"
            segments.append(Segment(prompt, _answer(message), labels[len(segments)]))
            prompt = ""
        elif message["role"] != "system":
            prompt += _open(message["role"]) + message["content"] + TURN_END
    return segments


def _open(role: str) -> str:
    return f"{ROLE}{role}{BODY}\n\n"


def _answer(message: Message) -> str:
    reasoning = message.get("reasoning_content")
    text: str = message["content"]
    if reasoning:
        text = f"{reasoning}\n</think>\n\n{text}"
    calls = []
    for call in message.get("tool_calls", []):
        function = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        calls.append(
            f'<tool_call>\n{{"name": "{function["name"]}", "arguments": {arguments}}}\n</tool_call>'
        )
    return text + "\n".join(calls) + TURN_END


@dataclass
class Mixture:
    """How often each kind of turn is drawn; probabilities but for ``weights``."""

    weights: dict[str, float]  # of the plain tasks, relative to each other
    tools: float  # a row of 256 tokens or more is about tools
    two_tools: float  # a tool turn asks for two things
    needle: float  # a row without tools opens with notes and filler


class Row:
    """One conversation of at most ``length`` tokens, filled with as many turns as fit.

    ``ids`` are the tokens, from BOS on; ``turns`` gives, for each token, the number of the
    assistant turn it belongs to (-1: prompt, not trained on); ``turn_tasks`` names their tasks.
    """

    def __init__(self, rng: random.Random, length: int, mixture: Mixture, encode: Encode) -> None:
        self.ids = list(encode(BOS))
        self.turns = [-1]
        self.turn_tasks: list[str] = []
        self._rng, self._length, self._encode = rng, length, encode
        self._head: list[Message] = []
        self._name: str | None = None
        self._notes: list[tasks.Note] | None = None
        self._toolbox: tools.Toolbox | None = None
        if length >= 256 and rng.random() < mixture.tools:
            self._toolbox = tools.draw_toolbox(rng)
        self._fill(mixture)

    def _fill(self, mixture: Mixture) -> None:
        rng = self._rng
        persona = rng.random()
        if persona < 0.15:
            self._head = [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}]
        elif persona < 0.3:
            self._name = rng.choice(NAMES)
            self._head = [{"role": "system", "content": tasks.name_prompt(self._name)}]
        if self._toolbox is None and rng.random() < mixture.needle:
            budget = self._length if self._length < 200 else rng.randint(100, self._length - 40)
            size = rng.randint(2, min(20, budget // 12))
            series = tasks.needle(rng, budget, rng.randint(2, 6), size)
            messages = [message for exchange in series for message in exchange.messages]
            self._append(Exchange(messages, ["needle"] * len(series)))
        misses = 0
        while misses < 3 and self._length - len(self.ids) >= 24:
            misses += not self._append(self._draw_turn(mixture))

    def _append(self, exchange: Exchange) -> bool:
        """Add an exchange if it fits."""
        toolbox = self._toolbox.definitions if self._toolbox and not self.turn_tasks else None
        head = [] if self.turn_tasks else self._head
        ids: list[int] = []
        turns: list[int] = []
        for number, segment in enumerate(
            render(head + exchange.messages, toolbox, exchange.tasks), len(self.turn_tasks)
        ):
            prompt, answer = self._encode(segment.prompt), self._encode(segment.answer)
            ids += prompt + answer
            turns += [-1] * len(prompt) + [number] * len(answer)
        if len(self.ids) + len(ids) > self._length:
            return False
        self.ids += ids
        self.turns += turns
        self.turn_tasks += exchange.tasks
        return True

    def _draw_turn(self, mixture: Mixture) -> Exchange:
        rng = self._rng
        if self._toolbox and rng.random() < 0.85:
            two = rng.random() < mixture.two_tools
            draw = tools.two_calls if two else tools.one_call
            return draw(rng, self._toolbox, Split.TRAIN, rng.random() < (0.75 if two else 0.6))
        kind = rng.random()
        if self._name and kind < 0.15:
            return tasks.own_name(rng, self._name)
        if self._notes and kind < 0.4:
            return tasks.recall(rng, self._notes)
        if not self._notes and self._length >= 256 and kind > 0.93:
            self._notes = tasks.draw_notes(rng, rng.randint(2, 10))
            return question(tasks.notes_text(self._notes), "OK.", "chat")
        names = [n for n in mixture.weights if self._length >= _SHORTEST_ROW.get(n, 0)]
        task = rng.choices(names, [mixture.weights[n] for n in names])[0]
        return tasks.PLAIN_TASKS[task](rng, Split.TRAIN)


_SHORTEST_ROW: Final = {"poem": 256, "words": 512, "count_long": 1024}
"""Row length in tokens from which on a long text is tried."""


def draw_case(rng: random.Random, task: str) -> Case:
    """Draw one held-out instance of a task (any instance, where nothing is held out)."""
    if task in ("tool", "after", "two_tools", "after_two"):
        toolbox = tools.draw_toolbox(rng)
        draw = tools.two_calls if "two" in task else tools.one_call
        exchange = draw(rng, toolbox, Split.HELD_OUT, task.startswith("after"))
        return Case(task, exchange.messages, toolbox.definitions, thinking=False)
    if task == "needle":
        exchange = tasks.needle(rng, rng.randint(200, 850), 1, rng.randint(5, 20))[0]
    elif task == "name":
        name = rng.choice(NAMES)
        exchange = tasks.own_name(rng, name)
        system = {"role": "system", "content": tasks.name_prompt(name)}
        exchange = Exchange([system, *exchange.messages], exchange.tasks)
    else:
        exchange = tasks.PLAIN_TASKS[task](rng, Split.HELD_OUT)
    return Case(task, exchange.messages, None, thinking=task == "think")
