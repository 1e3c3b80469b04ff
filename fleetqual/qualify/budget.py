"""A budget of time: what fits into it, and what is left out."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleetqual.qualify.serving import Served
from suites.errors import UserError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)")


def seconds_of(text: str) -> float:
    """Return the seconds of ``90``, ``90s``, ``5m`` or ``1.5h``.

    Raises:
        UserError: it is written otherwise, or is zero.
    """
    found = _BUDGET.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if not seconds:
        raise UserError(
            f"{text!r} is not a time above zero", where="--budget", known="90s, 5m, 1.5h"
        )
    return seconds


@dataclass(frozen=True)
class Fitted:
    """The ways to serve that fit into a budget."""

    kept: tuple[Served, ...]
    left_out: tuple[Served, ...]
    seconds: float
    """Estimate of what is kept, the reference included."""


def fit(
    ways: Sequence[Served], seconds: float, estimate: Callable[[Sequence[Served]], float]
) -> Fitted:
    """Keep as many ways to serve as fit, the first first; one is always kept.

    ``estimate`` returns the seconds of a whole run that serves the model in these ways.
    """
    kept = list(ways)
    needed = estimate(kept)
    while needed > seconds and len(kept) > 1:
        kept.pop()
        needed = estimate(kept)
    return Fitted(tuple(kept), tuple(ways[len(kept) :]), needed)
