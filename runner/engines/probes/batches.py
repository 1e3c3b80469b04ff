"""Which sequences are decoded together."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

#: Sequences in one batch, and ids of its prompts and answers together.
_SEQUENCES, _IDS = 16, 16_384
#: A step of a batch costs about as much as this many ids of a prompt: it reads all weights once.
_STEP_IDS = 16

T = TypeVar("T")


def batches(sequences: Iterable[T], lengths: Callable[[T], tuple[int, int]]) -> Iterator[list[T]]:
    """Yield batches of about equal lengths: padding costs less than the steps of one more batch.

    ``lengths`` gives the ids of a sequence's prompt, and the steps that follow it.
    """
    batch: list[T] = []
    padding = before = 0
    for sequence in sorted(sequences, key=lambda s: lengths(s)[::-1]):
        length, steps = lengths(sequence)
        width = max(length, before)
        padding += (width - before) * len(batch) + width - length
        too_many = len(batch) == _SEQUENCES or (width + steps) * (len(batch) + 1) > _IDS
        if batch and (too_many or padding > _STEP_IDS * steps):
            yield batch
            batch, padding, width = [], 0, length
        batch.append(sequence)
        before = width
    if batch:
        yield batch
