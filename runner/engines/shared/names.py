"""One name for each data type and architecture: torch, MLX and GGUF have different ones."""

from typing import Any

#: This project's name of a data type → that of torch and MLX.
LONG_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_SHORT = {long: short for short, long in LONG_DTYPES.items()}
#: Model types with another name in GGUF files. Facts are compared by the names of GGUF.
_GGUF_NAMES = {"mistral": "llama"}


def dtype_name(dtype: Any) -> str:
    """Return the short name of a data type of torch or MLX; its own name where there is none."""
    stated = str(dtype).rpartition(".")[2]
    return _SHORT.get(stated, stated)


def architecture(model_type: str) -> str:
    """Return what GGUF calls a model type of Hugging Face's."""
    return _GGUF_NAMES.get(model_type, model_type)
