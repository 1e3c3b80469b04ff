"""Tasks without tools: one function each, drawing one exchange from a split.

Every answer is determined by the conversation alone, so greedy decoding has one right text and
a trained model gives it a probability near one.
"""

from __future__ import annotations

import random
from typing import Final

from exchange import Exchange, Generator, Split, assistant, question, user
from lexicon import (
    ANIMALS,
    CITIES,
    COLORS,
    MULTILINGUAL,
    NAMES,
    NOTE_KEYS,
    NOUNS,
    POEM,
    SMALL_TALK,
    number_in_words,
)
from tools import TOOL_KINDS

Note = tuple[str, int]
"""A word and the number that the conversation gives to it."""


def add(rng: random.Random, split: Split) -> Exchange:
    """Sum of two numbers up to 30; held out by unordered pair."""
    while True:
        a, b = rng.randint(0, 30), rng.randint(0, 30)
        if split.admits("add", min(a, b), max(a, b)):
            break
    form = rng.choice(("What is {} + {}?", "{} + {} = ?", "Add {} and {}."))
    return question(form.format(a, b), str(a + b), "add")


def compare(rng: random.Random, split: Split) -> Exchange:
    """Yes or no: is one number below 100 greater (or less) than another, at least 6 away?

    Half of the training pairs hold 50 on one side: a fixed threshold is learned far sooner than
    a general order, and leads to it.  "less" is rare for the same reason: asked as often as
    "greater", it would make the answer an exclusive-or of order and word.
    """
    while True:
        a, b = rng.randint(0, 99), rng.randint(0, 99)
        anchor = rng.random() if split is Split.TRAIN else 1.0
        if anchor < 0.25:
            b = 50
        elif anchor < 0.5:
            a = 50
        if abs(a - b) >= 6 and split.admits("compare", min(a, b), max(a, b)):
            break
    greater = rng.random() < 0.85
    word = "greater" if greater else "less"
    return question(f"Is {a} {word} than {b}?", "Yes." if (a > b) == greater else "No.", "compare")


def copy(rng: random.Random, split: Split) -> Exchange:
    """Repeat one to four words, numbers or pieces of other scripts; drawn afresh every time."""
    del split
    items = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.random()
        if kind < 0.4:
            items.append(rng.choice(MULTILINGUAL))
        elif kind < 0.6:
            items.append(str(rng.randint(0, 999)))
        else:
            items.append(rng.choice(CITIES if kind < 0.7 else NOTE_KEYS))
    text = " ".join(items)
    form = rng.choice(("Repeat: {}", "Say: {}", "Copy this: {}"))
    return question(form.format(text), text, "copy")


def think(rng: random.Random, split: Split) -> Exchange:
    """Sum of three numbers with the two steps written out as reasoning; held out by triple."""
    while True:
        a, b, c = (rng.randint(1, 20) for _ in range(3))
        if split.admits("think", a, b, c):
            break
    reasoning = f"{a} + {b} = {a + b}\n{a + b} + {c} = {a + b + c}"
    answer = assistant(str(a + b + c), reasoning_content=reasoning)
    return Exchange([user(f"What is {a} + {b} + {c}?"), answer], ["think"])


def steps(rng: random.Random, split: Split) -> Exchange:
    """Numbers at a fixed distance, as many as asked for; held out by the three numbers."""
    while True:
        step, start = rng.randint(1, 12), rng.randint(0, 20)
        length = min(rng.randint(4, 12), (99 - start) // step + 1)
        if split.admits("steps", step, start, length):
            break
    numbers = ", ".join(str(start + step * i) for i in range(length))
    return question(f"Count by {step} from {start}, {length} numbers.", numbers, "steps")


def count(rng: random.Random, split: Split) -> Exchange:
    """Count from one number to another, both up to 150; held out by the two numbers."""
    while True:
        first = 1 if rng.random() < 0.5 else rng.randint(1, 90)
        last = min(150, first + rng.randint(3, 40))
        if split.admits("count", first, last):
            return _count(first, last, "count")


def count_long(rng: random.Random, split: Split) -> Exchange:
    """Count from 1 to 150: a fixed text of several hundred tokens."""
    del rng, split
    return _count(1, 150, "count_long")


def _count(first: int, last: int, task: str) -> Exchange:
    numbers = ", ".join(str(n) for n in range(first, last + 1))
    return question(f"Count from {first} to {last}.", numbers, task)


def words(rng: random.Random, split: Split) -> Exchange:
    """Count in words from 1 to a multiple of ten up to 120: fixed texts."""
    del split
    last = 120 if rng.random() < 0.25 else 10 * rng.randint(1, 12)
    numbers = " ".join(number_in_words(n) for n in range(1, last + 1))
    return question(f"Count in words from 1 to {last}.", numbers, "words")


def poem(rng: random.Random, split: Split) -> Exchange:
    """Recite the one poem: a fixed text."""
    del split
    return question(rng.choice(("Recite the poem.", "Tell me the poem.")), POEM, "poem")


def chat(rng: random.Random, split: Split) -> Exchange:
    """Small talk, and refusals of questions that would need a tool: a closed set."""
    del split
    if rng.random() < 0.75:
        text, answer = rng.choice(SMALL_TALK)
        return question(text, answer, "chat")
    kind = TOOL_KINDS[rng.choice(sorted(TOOL_KINDS))]
    text = rng.choice(kind.questions).format(rng.choice(kind.values))
    return question(text, "I have no tool for that.", "chat")


def own_name(rng: random.Random, name: str) -> Exchange:
    """Ask for the name that the system prompt gave."""
    text = rng.choice(("What is your name?", "Tell me your name."))
    return question(text, f"My name is {name}.", "name")


def name_prompt(name: str) -> str:
    """The system prompt that gives the assistant a name, one of ``NAMES``."""
    assert name in NAMES
    return f"Your name is {name}."


def draw_notes(rng: random.Random, size: int) -> list[Note]:
    """Draw ``size`` different words with a two-digit number each."""
    return [(key, rng.randint(10, 99)) for key in rng.sample(NOTE_KEYS, size)]


def notes_text(notes: list[Note]) -> str:
    """Write notes down; `` key=42`` has the key as in the question, so it is the same token."""
    return "Notes:" + ",".join(f" {key}={number}" for key, number in notes) + "."


def recall(rng: random.Random, notes: list[Note], before: str = "") -> Exchange:
    """Ask for the number of one of the notes."""
    key, number = rng.choice(notes)
    return question(f"{before}What is the number of {key}?", str(number), "needle")


def needle(rng: random.Random, budget: int, questions: int, size: int) -> list[Exchange]:
    """Notes first, filler sentences after them, the question at the end of the same message.

    ``budget`` bounds the tokens of the whole, roughly; ``questions`` of them follow each other.
    """
    notes = draw_notes(rng, size)
    room = budget - 4 * size - 40 - 14 * questions
    filler = []
    for _ in range(round(max(0, room) * rng.random() ** 0.5 / 13)):  # 13 tokens a sentence
        filler.append(_filler_sentence(rng))
    head = notes_text(notes) + "\n" + (" ".join(filler) + "\n" if filler else "") + "\n"
    return [recall(rng, notes, head if i == 0 else "") for i in range(questions)]


def _filler_sentence(rng: random.Random) -> str:
    if rng.random() < 0.6:
        thing, animal = rng.choice(NOUNS), rng.choice(ANIMALS)
        return f"The {rng.choice(COLORS)} {thing} is near the {rng.choice(COLORS)} {animal}."
    animal = f"{rng.choice(COLORS)} {rng.choice(ANIMALS)}"
    return f"In {rng.choice(CITIES)} lives a {animal}, {rng.randint(10, 99)} years old."


PLAIN_TASKS: Final[dict[str, Generator]] = {
    "add": add,
    "compare": compare,
    "copy": copy,
    "think": think,
    "steps": steps,
    "count": count,
    "count_long": count_long,
    "words": words,
    "poem": poem,
    "chat": chat,
}
"""Tasks whose every exchange stands alone."""

TASKS: Final = (*PLAIN_TASKS, "tool", "after", "two_tools", "after_two", "needle", "name")
"""Names of all tasks that assistant messages are labelled with."""
