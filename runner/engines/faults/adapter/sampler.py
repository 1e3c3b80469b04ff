"""A plain sampler over a row of logits, for mutations that change the logits themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runner.engines.base import Logits

Probabilities = npt.NDArray[np.float64]


def probabilities(row: Logits, asked: dict[str, Any], context: Sequence[int]) -> Probabilities:
    """Return the distribution [V] from which a token is drawn, in OpenAI's meaning of ``asked``.

    Args:
        row: logits [V].
        asked: sampling parameters; a bias is by id.
        context: ids so far, which penalties look at.
    """
    logits = np.array(row, np.float64)
    for token, bias in (asked.get("logit_bias") or {}).items():
        logits[int(token)] += bias
    _penalise(logits, asked, context)
    temperature = asked.get("temperature", 1.0)
    if not temperature:
        return np.asarray(np.eye(1, len(logits), int(np.argmax(logits)))[0], np.float64)
    logits /= temperature
    if k := asked.get("top_k"):
        logits[logits < np.sort(logits)[-min(int(k), len(logits))]] = -np.inf
    chances = _softmax(logits)
    if (p := asked.get("top_p", 1.0)) < 1:
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        chances[order[before >= p]] = 0.0
    if least := asked.get("min_p"):
        chances[chances < least * chances.max()] = 0.0
    return np.asarray(chances / chances.sum(), np.float64)


def _penalise(logits: Probabilities, asked: dict[str, Any], context: Sequence[int]) -> None:
    seen, counts = np.unique(np.array(context, np.int64), return_counts=True)
    if not len(seen):
        return
    factor = asked.get("repetition_penalty", 1.0)
    own = logits[seen]
    logits[seen] = np.where(own > 0, own / factor, own * factor)
    logits[seen] -= asked.get("presence_penalty", 0.0) + counts * asked.get(
        "frequency_penalty", 0.0
    )


def _softmax(logits: Probabilities) -> Probabilities:
    found = np.exp(logits - logits.max())
    return np.asarray(found / found.sum(), np.float64)
