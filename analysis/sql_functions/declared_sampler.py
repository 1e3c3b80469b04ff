"""Whether draws follow a sampler that a declared difference states, for SQL.

A declaration excuses draws that follow exactly that sampler, over the engine's own numbers. So it
holds for any model and any prompt, and excuses nothing else.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.sql_functions.statistics import chi2_upper_tail
from runner.stored.canonical import UNREADABLE

Floats = npt.NDArray[np.float64]

#: The order of OpenAI-style engines; a sampler may state its own as ``order``.
_ORDER = ("temperature", "top_k", "top_p", "min_p")
#: Share by which a cut may lie elsewhere: the numbers beside the draws are from another pass.
_SLACK = 1e-3
#: Places of a cut that are tried, where several lie within the slack.
_MOST_CUTS = 16


def fits_sampler(
    ids: Sequence[int],
    logprobs: Sequence[float],
    value: str,
    sampler: str,
    least_p: float,
    least_expected: float,
) -> bool:
    """Whether draws are what a sampler would draw; False for what cannot be read.

    Args:
        ids: the tokens that are known, [K].
        logprobs: their raw log-probabilities, [K].
        value: JSON with ``counts`` (draws by id) and perhaps ``bias`` (by id).
        sampler: JSON with temperature, top_k, top_p, min_p, and their ``order``.
        least_p: draws with a lower p do not follow the sampler.
        least_expected: draws that a bin of the χ² test must expect.
    """
    try:
        seen, stated = json.loads(value), json.loads(sampler)
        at = {token: i for i, token in enumerate(ids)}
        # What was not stored of a large vocabulary is one last token of its own.
        counts, bias = np.zeros(len(ids) + 1), np.zeros(len(ids) + 1)
        for token, times in seen["counts"].items():
            counts[at.get(int(token), -1)] += times
        for token, by in (seen.get("bias") or {}).items():
            bias[at[int(token)]] += by
        known = np.array(logprobs, np.float64)
        if not np.all(np.isfinite(known)) or counts.sum() == 0:
            return False
        rest = max(1.0 - float(np.exp(known).sum()), 1e-30)
        x = np.append(known, np.log(rest)) + bias
        order = np.append(np.argsort(-x[:-1], kind="stable"), len(x) - 1)
        drawn = counts[order]
        return any(_follow(drawn, p, least_p, least_expected) for p in _shares(x[order], stated))
    except (*UNREADABLE, LookupError, AttributeError, ArithmeticError):
        return False


def _shares(x: Floats, sampler: dict[str, Any]) -> Iterator[Floats]:
    """Yield the shares of the tokens, best first: one for each place where the cut may lie."""
    low = high = len(x)
    for name in sampler.get("order") or _ORDER:
        given = sampler.get(name)
        if given is None:
            continue
        if name == "temperature":
            x = x / given if given > 0 else np.where(np.arange(len(x)) == 0, 0.0, -np.inf)
        elif name == "top_k" and given > 0:
            low, high = min(low, int(given)), min(high, int(given))
        elif name == "top_p" and given < 1:
            low = min(low, _holding(x[:low], given - _SLACK))
            high = min(high, _holding(x[:high], given + _SLACK))
        elif name == "min_p":
            odds = np.exp(x - x[0])
            low = min(low, int(np.count_nonzero(odds >= given * (1 + _SLACK))))
            high = min(high, int(np.count_nonzero(odds >= given * (1 - _SLACK))))
    odds = np.exp(x - x[0])
    places = np.linspace(max(1, low), max(1, high), _MOST_CUTS).astype(int)
    for kept in np.unique(places):
        share = np.where(np.arange(len(x)) < kept, odds, 0.0)
        yield share / share.sum()


def _holding(x: Floats, mass: float) -> int:
    """Return how many of the best tokens hold a share of the mass."""
    p = np.exp(x - x[0])
    return min(int(np.searchsorted(np.cumsum(p) / p.sum(), mass)) + 1, len(x))


def _follow(drawn: Floats, p: Floats, least_p: float, least_expected: float) -> bool:
    if np.any(drawn[p <= 0] > 0):
        return False
    expected = p * drawn.sum()
    single = expected >= least_expected
    seen = [*drawn[single], drawn[~single].sum()]
    due = [*expected[single], expected[~single].sum()]
    if due[-1] < least_expected and len(due) > 1:
        seen[-2:], due[-2:] = [sum(seen[-2:])], [sum(due[-2:])]
    if len(due) < 2:
        return True
    chi2 = sum((s - d) ** 2 / d for s, d in zip(seen, due, strict=True) if d > 0)
    return chi2_upper_tail(float(chi2), len(due) - 1) >= least_p
