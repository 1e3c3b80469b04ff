"""Tails, powers and bounds of distributions for SQL, from scipy's special functions.

``scipy.stats`` gives the same numbers, but its import takes two seconds of each command.

Evidence is untrusted, and an error in a function would make the whole run unjudgeable. So every
function is total: where the arguments are no valid numbers it returns NaN or infinity, as its
docstring says.
"""

import math
from functools import cache

from scipy import special


def t_upper_tail(t: float, degrees: float) -> float:
    """Return P(T > t) of Student's t."""
    return float(special.stdtr(degrees, -t))


def binomial_upper(hits: float, tries: float, confidence: float) -> float:
    """Return the one-sided Clopper–Pearson upper bound of a rate, ``hits`` of ``tries``."""
    if hits >= tries:
        return 1.0
    return float(special.betaincinv(hits + 1, tries - hits, confidence))


def chi2_upper_tail(chi2: float, degrees: float) -> float:
    """Return P(X > chi2) of χ²; 1 without a degree of freedom, where nothing can differ.

    NaN where an argument is no number: what cannot be computed is no p that anything passes.
    """
    if math.isnan(chi2) or not math.isfinite(degrees):
        return math.nan
    if degrees < 1:
        return 1.0
    return float(special.chdtrc(degrees, max(chi2, 0.0)))


@cache
def chi2_power(degrees: float, n: float, alpha: float, power: float) -> float:
    """Return the least effect (Cohen's w) that a χ² test of ``n`` draws shows with this power.

    Under an effect w the statistic is noncentral χ² with parameter n·w² (Cohen 1988, ch. 7).
    Infinite where the test can show nothing: no draws, or no degree of freedom.
    """
    if not (1 <= degrees < math.inf and 1 <= n < math.inf and 0 < alpha < power < 1):
        return math.inf
    critical = special.chdtri(degrees, alpha)
    return math.sqrt(float(special.chndtrinc(critical, degrees, 1 - power)) / n)


def binomial_p(seen: float, n: float, share: float) -> float:
    """Return the two-sided p of ``seen`` among ``n`` draws of a share: twice the lesser tail.

    NaN where the arguments are no such numbers.
    """
    if not (0 <= seen <= n < math.inf and 0 <= share <= 1):
        return math.nan
    below, above = binomial_lower_tail(seen, n, share), binomial_upper_tail(seen, n, share)
    return min(1.0, 2 * min(below, above))


def binomial_upper_tail(seen: float, n: float, share: float) -> float:
    """Return P(X >= seen) among ``n`` draws of a share; NaN where these are no such numbers."""
    if not (0 <= seen <= n < math.inf and 0 <= share <= 1):
        return math.nan
    seen = math.ceil(seen)
    return 1.0 if seen <= 0 else float(special.betainc(seen, n - seen + 1, share))


def binomial_lower_tail(seen: float, n: float, share: float) -> float:
    """Return P(X <= seen) among ``n`` draws of a share; NaN where these are no such numbers."""
    if not (0 <= seen <= n < math.inf and 0 <= share <= 1):
        return math.nan
    seen = math.floor(seen)
    return 1.0 if seen >= n else float(special.betaincc(seen + 1, n - seen, share))


@cache
def binomial_power(n: float, share: float, alpha: float, power: float) -> float:
    """Return by how much a share must rise that a two-sided test of ``n`` draws shows it.

    The least additional share whose draws are, with this power, so many that p < ``alpha``.
    Infinite where not even all draws would be.
    """
    if not (1 <= n < math.inf and 0 <= share <= 1 and 0 < alpha < power < 1):
        return math.inf
    critical = _least_rejected(n, share, alpha / 2)
    if critical > n:
        return math.inf
    return max(0.0, float(special.betaincinv(critical, n - critical + 1, power)) - share)


def _least_rejected(n: float, share: float, alpha: float) -> float:
    """Return the least count with an upper tail of at most ``alpha``; above ``n`` without one."""
    low, high = 0, math.floor(n) + 1
    while low < high:
        middle = (low + high) // 2
        if binomial_upper_tail(middle, n, share) <= alpha:
            high = middle
        else:
            low = middle + 1
    return low
