"""What SQL cannot say for itself: tails of distributions, version ranges, one form for equal JSON.

Evidence is untrusted, and an error in here would make the whole run unjudgeable. So every function
is total: what it cannot take apart is compared as the text that it is.
"""

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import duckdb
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from scipy import optimize, stats

from analysis.sql_functions.answer_symptom import answer_symptom, shared_bytes
from analysis.sql_functions.differences import shown_difference
from analysis.sql_functions.likely_sampler import likely_sampler
from runner.stored import canonical
from runner.stored.canonical import UNREADABLE, called_function, canonical_fact


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Make the functions known to a connection; each returns NULL for a NULL argument."""
    for function, arguments, returns in _FUNCTIONS:
        types: list[Any] = list(arguments)
        con.create_function(function.__name__, function, types, duckdb.type(returns))


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Take the functions away again, so that users' queries run no Python."""
    for function, _, _ in _FUNCTIONS:
        con.remove_function(function.__name__)


def t_upper_tail(t: float, degrees: float) -> float:
    """Return P(T > t) of Student's t."""
    return float(stats.t.sf(t, degrees))


def binomial_upper(hits: float, tries: float) -> float:
    """Return the one-sided 95 % Clopper–Pearson upper bound of a rate, ``hits`` of ``tries``."""
    if hits >= tries:
        return 1.0
    return float(stats.beta.ppf(0.95, hits + 1, tries - hits))


def chi2_upper_tail(chi2: float, degrees: float) -> float:
    """Return P(X > chi2) of χ²; 1 without a degree of freedom, where nothing can differ.

    NaN where an argument is no number: what cannot be computed is no p that anything passes.
    """
    if math.isnan(chi2) or not math.isfinite(degrees):
        return math.nan
    if degrees < 1:
        return 1.0
    return float(stats.chi2.sf(chi2, degrees))


@cache
def chi2_power(degrees: float, n: float, alpha: float, power: float) -> float:
    """Return the least effect (Cohen's w) that a χ² test of ``n`` draws shows with this power.

    Under an effect w the statistic is noncentral χ² with parameter n·w² (Cohen 1988, ch. 7).
    Infinite where the test can show nothing: no draws, or no degree of freedom.
    """
    if not (1 <= degrees < math.inf and 1 <= n < math.inf and 0 < alpha < power < 1):
        return math.inf
    critical = stats.chi2.isf(alpha, degrees)

    def short(parameter: float) -> float:
        return float(stats.ncx2.sf(critical, degrees, parameter)) - power

    high = float(critical)
    while short(high) < 0:
        high *= 2
    return math.sqrt(optimize.brentq(short, 0.0, high) / n)


def binomial_p(seen: float, n: float, share: float) -> float:
    """Return the two-sided p of ``seen`` among ``n`` draws of a share: twice the lesser tail.

    NaN where the arguments are no such numbers.
    """
    if not (0 <= seen <= n < math.inf and 0 <= share <= 1):
        return math.nan
    below, above = stats.binom.cdf(seen, n, share), stats.binom.sf(seen - 1, n, share)
    return float(min(1.0, 2 * min(below, above)))


def binomial_upper_tail(seen: float, n: float, share: float) -> float:
    """Return P(X >= seen) among ``n`` draws of a share; NaN where these are no such numbers."""
    if not (0 <= seen <= n < math.inf and 0 <= share <= 1):
        return math.nan
    return float(stats.binom.sf(seen - 1, n, share))


@cache
def binomial_power(n: float, share: float, alpha: float, power: float) -> float:
    """Return by how much a share must rise that a two-sided test of ``n`` draws shows it.

    The least additional share whose draws are, with this power, so many that p < ``alpha``.
    Infinite where not even all draws would be.
    """
    if not (1 <= n < math.inf and 0 <= share <= 1 and 0 < alpha < power < 1):
        return math.inf
    critical = float(stats.binom.isf(alpha / 2, n, share)) + 1
    if critical > n:
        return math.inf
    return max(0.0, float(stats.beta.ppf(power, critical, n - critical + 1)) - share)


def version_in(version: str, versions: str) -> bool:
    """Whether a version lies in a range such as ``>=0.3,<0.4``; an unreadable one does not."""
    try:
        return SpecifierSet(versions).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier, *UNREADABLE):
        return False


def canonical_message(text: str, truth: str) -> str:
    """Return one JSON text for equal assistant messages.

    Nulls equal empty, call ids and spacing carry no meaning; the order of argument keys does,
    unless ``truth`` itself gives arguments as an object, whose order was never stored. The result
    is JSON also where ``text`` is none.
    """
    try:
        found = _message(json.loads(text), json.loads(truth))
        # DuckDB takes no half of a surrogate pair.
        found.encode()
    except UNREADABLE:
        return json.dumps(text, ensure_ascii=False)
    return found


def _message(message: Any, model: Any) -> str:
    if not isinstance(message, dict):
        return json.dumps(message, ensure_ascii=False, allow_nan=False)
    calls = model.get("tool_calls") if isinstance(model, dict) else None
    ordered = all(isinstance(called_function(c).get("arguments"), str) for c in calls or [])
    found = canonical.canonical_message(message, ordered=ordered)
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


_FUNCTIONS: tuple[tuple[Callable[..., Any], tuple[str, ...], str], ...] = (
    (t_upper_tail, ("DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_upper, ("DOUBLE", "DOUBLE"), "DOUBLE"),
    (chi2_upper_tail, ("DOUBLE", "DOUBLE"), "DOUBLE"),
    (chi2_power, ("DOUBLE", "DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_p, ("DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_upper_tail, ("DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_power, ("DOUBLE", "DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (version_in, ("VARCHAR", "VARCHAR"), "BOOLEAN"),
    (canonical_fact, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    (canonical_message, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    (shown_difference, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    (answer_symptom, ("VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR"), "VARCHAR"),
    (shared_bytes, ("VARCHAR", "VARCHAR"), "BIGINT"),
    (likely_sampler, ("INTEGER[]", "FLOAT[]", "VARCHAR", "VARCHAR"), "VARCHAR"),
)
