"""One name for each data type: torch, MLX and GGUF have different ones."""

from typing import Any

#: This project's name of a data type → that of torch and MLX.
LONG_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_SHORT = {long: short for short, long in LONG_DTYPES.items()}


def dtype_name(dtype: Any) -> str:
    """Return the short name of a data type of torch or MLX; its own name where there is none."""
    stated = str(dtype).rpartition(".")[2]
    return _SHORT.get(stated, stated)
