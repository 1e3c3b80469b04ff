"""Sampling that a model's generation config asks for when a request asks for nothing."""

import math
from typing import Any

#: Parameters that change the distribution, and the values at which they leave it alone.
NEUTRAL: dict[str, float] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "top_h": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
_WHOLE = ("top_k", "no_repeat_ngram_size")


def sampling_defaults(stated: dict[str, Any]) -> dict[str, Any]:
    """Return what a generation config states and what is not neutral, by name in order.

    Left out are values that are no finite numbers, as if they were not stated, and all of them
    without a name in ``NEUTRAL``.
    """
    found: dict[str, Any] = {"do_sample": True} if stated.get("do_sample") is True else {}
    for name, neutral in NEUTRAL.items():
        value = stated.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value) and value != neutral:
            found[name] = int(value) if name in _WHOLE else float(value)
    return dict(sorted(found.items()))
