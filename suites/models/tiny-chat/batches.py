"""The stream of training batches: a function of the seed, the step and the errors so far."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Final

import torch
from conversation import BOS, DOCUMENT_END, Encode, Mixture, Row
from tasks import TASKS
from tokenizer import CONTROL_TOKENS, MARKUP_TOKENS, VOCABULARY_SIZE, token_id
from tokenizers import Tokenizer
from torch import Tensor

TOKENS_PER_BATCH: Final = 4096
REPEAT: Final = "repeat"
"""Pseudo-task: rows that repeat a random string of tokens, to keep induction general."""
LABELS: Final = (*TASKS, REPEAT)

_EASE_FLOOR: Final = 0.12
_BASE_WEIGHTS: Final = {
    "add": 1.3,
    "compare": 2.2,
    "copy": 1.5,
    "think": 0.6,
    "steps": 1.0,
    "count": 0.6,
    "count_long": 0.3,
    "words": 0.5,
    "poem": 0.4,
    "chat": 0.35,
}


@dataclass(frozen=True)
class Batch:
    """Rows of one length: token ids (B, T), turn numbers (B, T; -1: no loss), turns' labels."""

    ids: Tensor
    turns: Tensor
    turn_labels: Tensor  # index into LABELS, by turn number


class TaskErrors:
    """Running share of wrong training turns by label; tasks that fail are drawn more often."""

    def __init__(self) -> None:
        self.rates = dict.fromkeys(LABELS, 1.0)

    def update(self, label: str, turns: int, rate: float) -> None:
        """Take in the error rate of some turns; more turns weigh more."""
        weight = min(0.3, 0.02 * turns)
        self.rates[label] += weight * (rate - self.rates[label])

    def mixture(self) -> Mixture:
        """Turn error rates into the probabilities of the next rows."""
        rates = self.rates
        one, two = max(rates["tool"], rates["after"]), max(rates["two_tools"], rates["after_two"])
        return Mixture(
            {task: base * (_EASE_FLOOR + rates[task]) for task, base in _BASE_WEIGHTS.items()},
            tools=0.4 + 0.35 * max(one, two),
            two_tools=min(0.7, max(0.3, 0.45 + 0.25 * (two - one))),
            needle=0.15 + 0.35 * rates["needle"],
        )


def make_encoder(tokenizer: Tokenizer) -> Encode:
    """Encode text without adding BOS; short texts recur, so they are remembered."""

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    remembered = functools.lru_cache(200_000)(encode)
    return lambda text: remembered(text) if len(text) < 120 else encode(text)


class BatchMaker:
    """Draws batches."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._encode = make_encoder(tokenizer)
        self._seed = seed
        self._bos = token_id(tokenizer, BOS)
        self._pad = token_id(tokenizer, DOCUMENT_END)
        self._plain_ids = range(VOCABULARY_SIZE - len(CONTROL_TOKENS) - len(MARKUP_TOKENS))

    def draw(self, step: int, progress: float, errors: TaskErrors) -> Batch:
        """Draw the batch of a step; ``progress`` is the share of the run that is done."""
        rng = random.Random(f"{self._seed}/{step}")
        if rng.random() < _repeat_share(progress):
            return self._repeats(rng, progress)
        lengths, weights = _row_lengths(progress)
        length = rng.choices(lengths, weights)[0]
        mixture = errors.mixture()
        rows = [Row(rng, length, mixture, self._encode) for _ in range(TOKENS_PER_BATCH // length)]
        ids = torch.full((len(rows), length), self._pad)
        turns = torch.full((len(rows), length), -1)
        labels: list[int] = []
        for i, row in enumerate(rows):
            row_turns = torch.tensor(row.turns)
            ids[i, : len(row.ids)] = torch.tensor(row.ids)
            turns[i, : len(row.ids)] = torch.where(row_turns < 0, -1, row_turns + len(labels))
            labels += [LABELS.index(task) for task in row.turn_tasks]
        return Batch(ids, turns, torch.tensor(labels))

    def _repeats(self, rng: random.Random, progress: float) -> Batch:
        lengths = (128,) if progress < 0.05 else (128, 256) if progress < 0.3 else (256, 512, 1024)
        length = rng.choice(lengths)
        size = TOKENS_PER_BATCH // length
        ids = torch.empty((size, length), dtype=torch.long)
        turns = torch.full((size, length), -1)
        for i in range(size):
            period = rng.randint(3, length // 2 - 1)
            pool: range | list[int] = self._plain_ids
            if rng.random() < 0.3:  # few different tokens: one token back is not enough to tell
                pool = rng.sample(self._plain_ids, max(6, period // 2))
            text = [rng.choice(pool) for _ in range(period)]
            ids[i] = torch.tensor(([self._bos] + text * (length // period + 1))[:length])
            turns[i, period + 2 :] = i
        return Batch(ids, turns, torch.full((size,), LABELS.index(REPEAT)))


def _repeat_share(progress: float) -> float:
    if progress < 0.015:
        return 1.0
    return 0.4 if progress < 0.06 else 0.12 if progress < 0.2 else 0.04


def _row_lengths(progress: float) -> tuple[list[int], list[float]]:
    """Row lengths in tokens and their shares: short rows first."""
    if progress < 0.1:
        return [128, 256], [0.6, 0.4]
    if progress < 0.25:
        return [128, 256, 512], [0.3, 0.45, 0.25]
    return [128, 256, 512, 1024], [0.25, 0.3, 0.25, 0.2]
