"""The arithmetic of ggml's quantised kernels on CPUs, put into a trusted engine.

ggml multiplies a quantised matrix with activations that it first rounds too. The type of the
matrix says how (``type_traits_cpu`` in ggml-cpu.c: ``vec_dot_type``). A floor for quantised
variants must contain that rounding: it is part of the format and no defect.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Type of a matrix → how its activations are rounded: values in a block, and whether the scale is
#: kept as float16. Q8_1 also keeps the sum of a block, whose rounding is smaller by far.
_BLOCKS = {
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "MXFP4", "Q4_1", "Q5_1"), (32, True)),
    **dict.fromkeys(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS"), (256, False)),
}
_CASTS = {"F16": "float16", "BF16": "bfloat16"}
#: In a model folder: Hugging Face tensor name → type of that tensor in the GGUF.
TYPES_FILE = "ggml_types.json"
_Hook = Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]


def round_activations(torch: Any, model: Any, folder: Path, kind: str) -> None:
    """Round the input of every linear layer of ``model`` as ggml does, from now on.

    ``folder`` says the type of each tensor in ``TYPES_FILE``; without that file all are ``kind``,
    a quantisation such as ``q8_0``.
    """
    stated = folder / TYPES_FILE
    types = json.loads(stated.read_text(encoding="utf-8")) if stated.exists() else {}
    shared = model.get_input_embeddings().weight
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            # A tied head is stored once, as the embedding.
            tied = "model.embed_tokens.weight" if layer.weight is shared else ""
            own = types.get(f"{name}.weight") or types.get(tied)
            hook = _hook(torch, str(own or kind).upper())
            if hook is not None:
                layer.register_forward_pre_hook(hook)


def _hook(torch: Any, kind: str) -> _Hook | None:
    if kind in _CASTS:
        return _casting(getattr(torch, _CASTS[kind]))
    return _blocking(torch, *_BLOCKS[kind]) if kind in _BLOCKS else None


def _casting(dtype: Any) -> _Hook:
    def cast(_layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].to(dtype).to(inputs[0].dtype), *inputs[1:])

    return cast


def _blocking(torch: Any, size: int, half_scale: bool) -> _Hook:
    def rounded(_layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x = inputs[0]
        if x.shape[-1] % size:
            return inputs
        blocks = x.float().reshape(*x.shape[:-1], -1, size)
        scale = blocks.abs().amax(-1, keepdim=True) / 127
        scale = scale.to(torch.float16).float() if half_scale else scale
        whole = torch.where(scale > 0, torch.round(blocks / scale), torch.zeros_like(blocks))
        return ((whole * scale).reshape(x.shape).to(x.dtype), *inputs[1:])

    return rounded
