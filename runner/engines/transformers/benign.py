"""Benign configurations of transformers: what they differ by is noise, and makes the floor.

Each changes only the order of additions: threads, attention kernels, padding, chunks of a prompt,
math libraries. How far they lie from the reference says how far an equal computation may lie.
"""

import itertools
from typing import Any

#: Quantisation whose kernels round activations too → the value of ``activations`` that does so.
ROUNDED_TYPES = {"Q8_0": "q8_0"}
OPTIONS: dict[str, tuple[Any, ...]] = {
    "threads": (1, 2),
    "padding": (0, 1, 5, 16),
    "prefill_chunk": (0, 17, 64),
    "attn_implementation": ("sdpa", "eager"),
}
_SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"threads": 2},
    {"padding": 1},
    {"padding": 5},
    {"padding": 16},
    {"prefill_chunk": 5},
    {"prefill_chunk": 17},
    {"prefill_chunk": 64},
    {"padding": 3, "prefill_chunk": 33},
    {"mkldnn": False},
)


def floors(dtype: str) -> list[dict[str, Any]]:
    """Return 20 benign configurations that compute in ``dtype``."""
    rounded = dtype in ROUNDED_TYPES.values()
    arithmetic = {"dtype": "f32", "activations": dtype} if rounded else {"dtype": dtype}
    return [
        {**arithmetic, "threads": 1, "attn_implementation": attention, **shape}
        for attention, shape in itertools.product(("sdpa", "eager"), _SHAPES)
    ]
