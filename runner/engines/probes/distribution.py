"""Logits summarised as the few numbers per position that are stored."""

from typing import Any

import numpy as np
import numpy.typing as npt

from runner.engines.base import Logits
from runner.engines.protocol import Arrays

REFERENCE_TOP_K = 20
OWN_TOP_K = 5
#: Rows that are held in float64 at a time: the whole of a long prompt would need gigabytes.
_ROWS = 16
#: Up to so many largest values are found one after the other.
_FEW = 32


def distribution_payload(
    logits: Logits, following: npt.NDArray[np.int32], top_ids: npt.NDArray[np.int32] | None
) -> Arrays:
    """Summarise ``logits`` [n, V] at the reference's ids.

    Args:
        following: [n] the id that follows each position.
        top_ids: [n, k] the reference's most probable ids; None takes this engine's own, which makes
            the payload a reference.

    Returns:
        ``logprobs`` [n], ``ref_topk_logprobs`` [n, k] and ``tail_logprob`` [n] in nats, computed in
        float64 and kept as float32, and ``top_ids`` [n, 5] (or [n, k] for a reference). The tail is
        the log-sum-exp of the remaining vocabulary, never 1 − sum, which would cancel.
    """
    k = REFERENCE_TOP_K if top_ids is None else OWN_TOP_K
    parts = []
    for start in range(0, max(1, len(logits)), _ROWS):
        part = slice(start, start + _ROWS)
        z = _log_softmax(logits[part])
        own = largest(logits[part], k)
        logprobs = np.take_along_axis(z, following[part, None], axis=1)[:, 0].astype(np.float32)
        gathered = _gathered(z, own if top_ids is None else top_ids[part])
        parts.append({"logprobs": logprobs, **gathered, "top_ids": own})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ranked_payload(logits: Logits, k: int) -> Arrays:
    """Return the ``k`` most probable ids of ``logits`` [n, V], all if V is less, and their tail.

    The tail of a whole vocabulary is -inf.
    """
    z = _log_softmax(logits)
    top_ids = largest(z, k)
    return {**_gathered(z, top_ids), "top_ids": top_ids}


def log_sum_exp(logits: Logits) -> npt.NDArray[np.float64]:
    """Return [n] the log-sum-exp of ``logits`` [n, V]: a logit is its log-probability plus this."""
    z = logits.astype(np.float64)
    top = np.max(z, axis=1)
    found: npt.NDArray[np.float64] = top + np.log(np.sum(np.exp(z - top[:, None]), axis=1))
    return found


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    z = logits.astype(np.float64)
    z -= np.max(z, axis=1, keepdims=True)
    z -= np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    return z


def _gathered(z: npt.NDArray[np.float64], at: npt.NDArray[np.int32]) -> Arrays:
    """Return log-probabilities at ids and the tail outside of them; ``z`` is overwritten."""
    gathered = np.take_along_axis(z, at, axis=1)
    np.put_along_axis(z, at, -np.inf, axis=1)
    with np.errstate(divide="ignore"):
        tail = np.log(np.sum(np.exp(z), axis=1))
    return {
        "ref_topk_logprobs": gathered.astype(np.float32),
        "tail_logprob": tail.astype(np.float32),
    }


def count_nonfinite(logits: Logits) -> int:
    """Return how many logits are NaN or infinite."""
    return int(np.count_nonzero(~np.isfinite(logits)))


def mass_error(payload: Arrays) -> float:
    """Return the largest |1 − Σp| over positions, of the kept ids and the tail together."""
    kept = np.exp(payload["ref_topk_logprobs"].astype(np.float64)).sum(axis=1)
    total = kept + np.exp(payload["tail_logprob"].astype(np.float64))
    return float(np.max(np.abs(1.0 - total))) if np.all(np.isfinite(total)) else 1e308


def largest(z: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.int32]:
    """Return [n, k] the ids of the largest values of ``z`` [n, V] in each row, best first."""
    k = min(k, z.shape[1])
    if k <= _FEW:
        return _few_largest(z, k)
    found = np.argpartition(-z, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(z, found, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1).astype(np.int32)


def _few_largest(z: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.int32]:
    """Take the maximum ``k`` times: of 100,000 values that is ten times as fast as a partition."""
    left, found = z.copy(), np.empty((len(z), k), np.int32)
    for place in range(k):
        best = np.argmax(left, axis=1)
        found[:, place] = best
        np.put_along_axis(left, best[:, None], -np.inf, axis=1)
    return found
