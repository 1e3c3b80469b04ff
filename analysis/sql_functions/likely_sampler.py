"""Which usual sampler setting explains draws that do not follow from what was asked.

A hint for people beside a verdict that was reached without it: nothing here judges.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.sql_functions.statistics import binomial_p, chi2_upper_tail
from runner.stored.canonical import UNREADABLE

Floats = npt.NDArray[np.float64]

_TEMPERATURES = tuple(round(0.05 * i, 2) for i in range(2, 41))
#: Defaults that engines and model files are known to apply, the best known first.
_CUTS: tuple[dict[str, float], ...] = (
    {"min_p": 0.05},
    {"top_k": 40},
    {"top_p": 0.95},
    {"top_k": 50},
    {"top_p": 0.9},
    {"min_p": 0.1},
    {"top_k": 20},
    {"top_p": 0.8},
    {"top_k": 10},
    {"top_k": 64},
    {"top_k": 100},
    {"min_p": 0.02},
    {"min_p": 0.01},
    {"top_k": 40, "top_p": 0.95, "min_p": 0.05},
)


@dataclass(frozen=True)
class _Limits:
    least_p: float
    """A setting with a lower p does not explain the draws."""
    least_expected: float
    """Draws that a bin of the χ² test must expect."""
    alike: float
    """Of settings this close in log-likelihood the better known one is named."""


@dataclass(frozen=True)
class _Setting:
    told: str
    temperature: float = 1.0
    cut: dict[str, float] = field(default_factory=dict)
    """The cut that is named."""
    own: dict[str, float] = field(default_factory=dict)
    """The cuts that were asked for."""
    biased: bool = True
    late: bool = False
    """Whether the temperature comes after the cuts."""


def likely_sampler(
    ids: Sequence[int],
    logprobs: Sequence[float],
    value: str,
    asked: str,
    least_p: float,
    least_expected: float,
    alike: float,
) -> str:
    """Return in words which sampler these draws look like; empty if no usual one does.

    Args:
        ids: the tokens that are known, [K].
        logprobs: their raw log-probabilities, [K].
        value: JSON with ``counts`` (draws by id) and perhaps ``bias`` (by id).
        asked: JSON with the sampling parameters of the request.
        least_p: a setting with a lower p does not explain the draws.
        least_expected: draws that a bin of the χ² test must expect.
        alike: of settings this close in log-likelihood the better known one is named.
    """
    try:
        seen, request = json.loads(value), json.loads(asked)
        at = {token: i for i, token in enumerate(ids)}
        # What was not stored of a large vocabulary is one last token of its own.
        counts, bias = np.zeros(len(ids) + 1), np.zeros(len(ids) + 1)
        for token, times in seen["counts"].items():
            counts[at.get(int(token), -1)] += times
        for token, by in (seen.get("bias") or {}).items():
            bias[at[int(token)]] += by
        known = np.array(logprobs, np.float64)
        if not np.all(np.isfinite(known)) or counts.sum() == 0:
            return ""
        rest = max(1.0 - float(np.exp(known).sum()), 1e-30)
        limits = _Limits(least_p, least_expected, alike)
        return _found(np.append(known, np.log(rest)), bias, counts, request, limits)
    except (*UNREADABLE, LookupError, AttributeError, ArithmeticError):
        return ""


def _found(
    raw: Floats, bias: Floats, counts: Floats, request: dict[str, Any], limits: _Limits
) -> str:
    if np.count_nonzero(counts) == 1:
        # What was not stored is many tokens.
        return "" if counts[-1] else "every draw is one and the same token: looks greedy"
    sides = {True: _in_order(raw + bias, counts), False: _in_order(raw, counts)}
    for family in _families(request):
        likely, best = -np.inf, ""
        for setting in family:
            behind, drawn = sides[setting.biased]
            expected = _expected(behind, setting)
            seen = drawn > 0
            if np.any(expected[seen] <= 0):
                continue
            told = float(np.sum(drawn[seen] * np.log(expected[seen])))
            better = told > likely + limits.alike
            if better and _fit(drawn, expected, limits.least_expected) > limits.least_p:
                likely, best = told, _words(setting, expected, behind)
        if best:
            return best
    return ""


def _in_order(x: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Return how far each token lies behind the best (nats), best first, and its draws."""
    order = np.append(np.argsort(-x[:-1], kind="stable"), len(x) - 1)
    return x[order] - x[order[0]], counts[order]


def _families(request: dict[str, Any]) -> Iterator[list[_Setting]]:
    """Yield settings from the simplest explanation to the furthest."""
    warm = float(request.get("temperature") or 1.0)
    own = {k: float(request[k]) for k in ("top_k", "top_p", "min_p") if request.get(k)}
    base = _Setting("", warm, own=own)
    without = [
        replace(base, told=f"fits the request without its {k}", own=_left_out(own, k)) for k in own
    ]
    if warm != 1.0:
        without.append(
            replace(base, told="fits the request without its temperature", temperature=1.0)
        )
    if request.get("logit_bias"):
        without.append(replace(base, told="fits the request without its logit_bias", biased=False))
    yield without
    other = [t for t in _TEMPERATURES if t != warm]
    yield [
        *(replace(base, cut=cut) for cut in _CUTS),
        *(
            replace(base, told=f"fits temperature {t:g}, asked {warm:g}", temperature=t)
            for t in other
        ),
    ]
    yield [
        replace(
            base,
            told=f"fits temperature {t:g}, asked {warm:g}, and {_named(cut)}",
            temperature=t,
            cut=cut,
            late=late,
        )
        for t in other
        for cut in _CUTS
        for late in (False, True)
    ]


def _left_out(own: dict[str, float], name: str) -> dict[str, float]:
    return {k: v for k, v in own.items() if k != name}


def _expected(behind: Floats, setting: _Setting) -> Floats:
    """Return the probabilities of the tokens, best first."""
    odds = np.exp(behind / setting.temperature)
    seen = np.exp(behind) if setting.late else odds
    kept = _kept(seen, _both(setting.own, setting.cut))
    odds = np.where(np.arange(len(odds)) < kept, odds, 0.0)
    p: Floats = odds / odds.sum()
    return p


def _both(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """Return the narrower of two cuts of each kind."""
    found = {**one, **other}
    for name in one.keys() & other.keys():
        found[name] = (max if name == "min_p" else min)(one[name], other[name])
    return found


def _kept(weights: Floats, cut: dict[str, float]) -> int:
    kept = len(weights)
    if "top_k" in cut:
        kept = min(kept, int(cut["top_k"]))
    if "top_p" in cut:
        inside = weights[:kept] / weights[:kept].sum()
        kept = int(np.searchsorted(np.cumsum(inside), cut["top_p"])) + 1
    if "min_p" in cut:
        kept = min(kept, int(np.count_nonzero(weights >= cut["min_p"])))
    return max(1, min(kept, len(weights)))


def _fit(drawn: Floats, p: Floats, least: float) -> float:
    expected = p * drawn.sum()
    single = expected >= least
    seen = [*drawn[single], drawn[~single].sum()]
    due = [*expected[single], expected[~single].sum()]
    if due[-1] < least and len(due) > 1:
        seen[-2:], due[-2:] = [sum(seen[-2:])], [sum(due[-2:])]
    if len(due) < 2:
        rare, share = drawn[~single].sum(), p[~single].sum()
        return binomial_p(float(rare), float(drawn.sum()), min(1.0, float(share)))
    chi2 = sum((s - d) ** 2 / d for s, d in zip(seen, due, strict=True) if d > 0)
    return chi2_upper_tail(float(chi2), len(due) - 1)


def _named(cut: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in cut.items())


def _words(setting: _Setting, p: Floats, behind: Floats) -> str:
    if setting.told:
        return setting.told
    cut, kept = setting.cut, int(np.count_nonzero(p))
    odds = np.exp(behind / setting.temperature)
    share = f"{100 * odds[kept:].sum() / odds.sum():.2g} % of the mass"
    if set(cut) == {"min_p"}:
        rest = (
            f"no draw of any token below {cut['min_p']:g} of the most probable, which hold {share}"
        )
    elif set(cut) == {"top_k"}:
        rest = f"only the {kept} most probable occur, the others hold {share}"
    else:
        rest = f"no draw outside of the {kept} most probable, which hold {share}"
    return f"{rest}: looks like {_named(cut)}"
