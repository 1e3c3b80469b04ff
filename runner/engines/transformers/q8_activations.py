"""The arithmetic of ggml's Q8_0 kernels on CPUs, put into a trusted engine.

ggml multiplies a Q8_0 matrix with activations that it first rounds to Q8_0 themselves: blocks
of 32 values, a float16 scale of max|x| / 127 each (``quantize_row_q8_0`` in ggml-quants.c). A
floor for quantised variants must contain that rounding: it is part of the format and no defect.
"""

from typing import Any

_BLOCK = 32


def round_activations(torch: Any, model: Any) -> None:
    """Round the input of every linear layer of ``model`` to Q8_0 blocks, from now on."""

    def rounded(_layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x = inputs[0]
        if x.shape[-1] % _BLOCK:
            return inputs
        blocks = x.float().reshape(*x.shape[:-1], -1, _BLOCK)
        scale = (blocks.abs().amax(-1, keepdim=True) / 127).to(torch.float16).float()
        whole = torch.where(scale > 0, torch.round(blocks / scale), torch.zeros_like(blocks))
        return ((whole * scale).reshape(x.shape).to(x.dtype), *inputs[1:])

    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_pre_hook(rounded)
