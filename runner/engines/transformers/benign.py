"""Benign configurations of transformers: what they differ by is noise, and makes the floor.

Each changes only the order of additions: threads, attention kernels, padding, chunks of a prompt,
math libraries. How far they lie from the reference says how far an equal computation may lie.
"""

import itertools
from typing import Any

#: Quantisation (of a file, as llama.cpp names it) whose kernels round activations too → the value
#: of ``activations`` that does so, which is also the compute dtype.
ROUNDED_TYPES = {
    kind: kind.lower()
    for kind in (
        *("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL", "IQ4_XS"),
        *("Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M"),
        *("Q5_K_S", "Q5_K_M", "Q6_K"),
    )
}
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
#: A few that differ from the reference in each way once: the prior knows the rest.
_FEW: tuple[dict[str, Any], ...] = (
    {"attn_implementation": "eager"},
    {"padding": 5},
    {"prefill_chunk": 17},
    {"attn_implementation": "eager", "padding": 3, "prefill_chunk": 33},
    {"mkldnn": False},
)
_CHANGEABLE = {"threads", "padding", "prefill_chunk", "attn_implementation", "mkldnn"}


def floors(dtype: str) -> list[dict[str, Any]]:
    """Return 20 benign configurations that compute in ``dtype``."""
    return [
        {**_arithmetic(dtype), "threads": 1, "attn_implementation": attention, **shape}
        for attention, shape in itertools.product(("sdpa", "eager"), _SHAPES)
    ]


def few_floors(dtype: str) -> list[dict[str, Any]]:
    """Return 5 benign configurations that compute in ``dtype``, for a floor with a prior."""
    return [{**_arithmetic(dtype), **shape} for shape in _FEW]


def _arithmetic(dtype: str) -> dict[str, Any]:
    rounded = dtype in ROUNDED_TYPES.values()
    return {"dtype": "f32", "activations": dtype} if rounded else {"dtype": dtype}


class Settings:
    """The options that can be changed on a loaded model; others keep what they were at load."""

    def __init__(self, torch: Any, model: Any, passes: Any, options: dict[str, Any]) -> None:
        self._torch, self._model, self._passes = torch, model, passes
        self._loaded = {
            "threads": torch.get_num_threads(),
            "mkldnn": True,
            "attn_implementation": model.config._attn_implementation,
            "padding": 0,
            "prefill_chunk": 0,
        } | options

    def set(self, options: dict[str, Any]) -> None:
        """Set these options, and all others back to what they were at load.

        Raises:
            KeyError: an option needs a new load.
        """
        for name in options.keys() - _CHANGEABLE:
            raise KeyError(f"option {name} cannot be changed on a loaded model")
        now = self._loaded | options
        self._torch.set_num_threads(int(now["threads"]))
        self._torch.backends.mkldnn.enabled = bool(now["mkldnn"])
        self._model.set_attn_implementation(now["attn_implementation"])
        self._passes.padding, self._passes.chunk = int(now["padding"]), int(now["prefill_chunk"])
