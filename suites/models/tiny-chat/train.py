"""Train tiny-chat from scratch: one command, one seed, one number of steps.

    python suites/models/tiny-chat/train.py

writes the model directory (weights, configuration, tokenizer) and tiny-chat-f32.gguf beside
this file.  Batches depend on the seed, the step and the training errors so far, and on nothing
that varies between runs; so do the weights, on one kind of processor.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Final

import torch
from batches import LABELS, REPEAT, Batch, BatchMaker, TaskErrors
from export import save_model
from make_variants import make_variants
from network import Architecture, Network
from optimizer import Optimizer
from structured_init import initialise
from tokenizer import build_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

SEED: Final = 1
STEPS: Final = 5600
THREADS: Final = 2
WARM_UP_STEPS: Final = 60
DECAY_SHARE: Final = 0.6
"""Share of the run, at its end, over which learning rates fall to zero."""
REPORT_EVERY: Final = 100
SAVE_EVERY: Final = 300

_TOKEN_WEIGHTS: Final = {
    "add": 2.0,
    "compare": 2.0,
    "needle": 2.0,
    "think": 0.6,
    "steps": 0.8,
    "count": 0.5,
    "count_long": 0.3,
    "words": 0.6,
    "poem": 0.8,
    "tool": 0.5,
    "two_tools": 0.4,
}
"""Weight of a token's loss by task, 1 where not given: long answers must not drown short ones."""


def learning_rate_scale(step: int) -> float:
    """Factor of all learning rates at a step: a short rise, a plateau, a linear fall."""
    warm_up = min(1.0, (step + 1) / WARM_UP_STEPS)
    return warm_up * min(1.0, max(0.01, (1 - step / STEPS) / DECAY_SHARE))


def single_token_numbers(tokenizer: Tokenizer) -> dict[int, int]:
    """Map each number below 200 that is one token to the id of that token."""
    found = {}
    for number in range(200):
        ids = tokenizer.encode(str(number), add_special_tokens=False).ids
        if len(ids) == 1:
            found[number] = ids[0]
    return found


class Trainer:
    """One training run."""

    def __init__(self, out: Path) -> None:
        torch.set_num_threads(THREADS)
        torch.manual_seed(SEED)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        self.out = out
        self.tokenizer = build_tokenizer()
        self.network = Network(Architecture())
        initialise(self.network, single_token_numbers(self.tokenizer))
        self.network.compile(dynamic=False)  # one compilation for each row length
        self.optimizer = Optimizer(self.network)
        self.batches = BatchMaker(self.tokenizer, SEED)
        self.errors = TaskErrors()
        self.token_weights = torch.tensor([_TOKEN_WEIGHTS.get(name, 1.0) for name in LABELS])

    def run(self) -> None:
        """Train for all steps, reporting and saving on the way."""
        start = time.monotonic()
        for step in range(STEPS):
            batch = self.batches.draw(step, step / STEPS, self.errors)
            loss = self._step(batch, learning_rate_scale(step))
            if (step + 1) % REPORT_EVERY == 0:
                errors = " ".join(f"{name}={rate:.2f}" for name, rate in self.errors.rates.items())
                print(
                    f"step {step + 1}/{STEPS} {time.monotonic() - start:.0f} s "
                    f"loss {loss:.4f} errors {errors}",
                    flush=True,
                )
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == STEPS:
                save_model(self.network, self.tokenizer, self.out)

    def _step(self, batch: Batch, scale: float) -> float:
        """Do one step on one batch; returns its loss, in nats a token."""
        turns = batch.turns[:, 1:]
        trained = turns >= 0
        hidden = self.network(batch.ids)[:, :-1][trained]  # (N, D)
        logits = self.network.lm_head(hidden)  # (N, V)
        targets, turns = batch.ids[:, 1:][trained], turns[trained]
        weights = self.token_weights[batch.turn_labels[turns]]
        losses = functional.cross_entropy(logits, targets, reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(scale)
        self._note_errors(batch.turn_labels, turns, logits.detach().argmax(-1) != targets)
        return loss.item()

    def _note_errors(self, turn_labels: Tensor, turns: Tensor, wrong: Tensor) -> None:
        """Take wrong tokens (N) of turns (N) into the running errors: one spoils its turn."""
        tokens = torch.bincount(turns, minlength=len(turn_labels))
        failed = torch.bincount(turns, wrong.double(), minlength=len(turn_labels))
        for label in sorted(set(turn_labels.tolist())):
            chosen = turn_labels == label
            if LABELS[label] == REPEAT:  # of a whole row, count tokens instead
                rate = failed[chosen].sum() / tokens[chosen].sum()
            else:
                rate = (failed[chosen] > 0).double().mean()
            self.errors.update(LABELS[label], int(chosen.sum()), float(rate))


def main() -> None:
    """Train, then write the GGUF file beside the HF files."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Train tiny-chat from scratch.")
    parser.add_argument("--out", type=Path, default=here, help="folder to write the model to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() != here:
        shutil.copy(here / "chat_template.jinja", out)
    Trainer(out).run()
    make_variants(out, out, ["f32"])


if __name__ == "__main__":
    main()
