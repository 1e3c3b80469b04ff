"""Where each tensor lies in the layout in which artifacts are compared: that of GGUF files.

Names are GGUF's, experts are stacked and norms are shifted as in a GGUF file; rows are in Hugging
Face's order. What the converter changes is known by architecture, as data.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import gguf
import numpy as np

from runner.model.architectures import table
from runner.model.tensors import Tensor, Values

#: One expert's matrix: what stands before its number, the number, and what stands behind it.
_EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(.*)")
#: Names that the name map of the gguf library lacks.
_STACKED = re.compile(r"model\.(layers\.\d+)\.block_sparse_moe\.experts\.(w\d\.weight)")


@dataclass(frozen=True)
class Place:
    """Where a tensor of a Hugging Face folder lies."""

    name: str
    expert: int | None = None
    """Its index in a stack of experts."""
    shift: float = 0.0
    """What is added to its values."""

    def taken_from(self, values: Values) -> Values:
        """Return the tensor's own values out of those that lie in the common layout."""
        part = values if self.expert is None else values[self.expert]
        return np.ascontiguousarray(part - np.float32(self.shift) if self.shift else part)


def places(names: Iterable[str], architecture: str, layers: int) -> dict[str, Place]:
    """Return Hugging Face tensor name → its place; a name that GGUF lacks keeps its own.

    Args:
        names: of all tensors of a folder.
        architecture: GGUF's name of it.
        layers: how many the model has.
    """
    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}.get(architecture)
    known = None if arch is None else gguf.get_tensor_name_map(arch, layers)
    shift = max((found.norm_shift for found in table.of_gguf(architecture)), default=0.0)
    found = {}
    for name in names:
        whole, expert = name, None
        if one := _EXPERT.fullmatch(name):
            whole, expert = f"{one[1]}.{one[3]}", int(one[2])
            if mixtral := _STACKED.fullmatch(whole):
                whole = f"{mixtral[1]}.feed_forward.experts.{mixtral[2]}"
        mapped = known.get_name(whole, try_suffixes=(".weight", ".bias")) if known else None
        if mapped is None:
            found[name] = Place(name)
        else:
            found[name] = Place(mapped, expert, shift if name.endswith("norm.weight") else 0.0)
    return found


def common(stored: Iterable[Tensor], where: Mapping[str, Place]) -> dict[str, Tensor]:
    """Return tensors of a folder by name in the common layout."""
    stacks: dict[str, dict[int, Tensor]] = {}
    found: dict[str, Tensor] = {}
    for tensor in stored:
        place = where[tensor.name]
        if place.expert is not None:
            stacks.setdefault(place.name, {})[place.expert] = tensor
        elif place.shift:
            found[place.name] = _shifted(replace(tensor, name=place.name), place.shift)
        else:
            found[place.name] = replace(tensor, name=place.name)
    return found | {name: _stacked(name, experts) for name, experts in stacks.items()}


def shown_names(where: Mapping[str, Place]) -> dict[str, str]:
    """Return common name → the name by which users know the tensor; ``*`` stands for experts."""
    return {
        place.name: name if place.expert is None else _EXPERT.sub(r"\1.*.\3", name)
        for name, place in where.items()
    }


def split_by_head(values: Values, heads: int) -> Values:
    """Return q, k and v, which lie one after the other, interleaved by head as GPT-NeoX has them.

    Args:
        values: ``(3 · heads · size, …)``.
        heads: number of heads.
    """
    parts = values.reshape(3, heads, -1, *values.shape[1:])
    return np.ascontiguousarray(parts.swapaxes(0, 1).reshape(values.shape))


def _shifted(tensor: Tensor, shift: float) -> Tensor:
    read = tensor.values
    return replace(tensor, values=lambda: read() + np.float32(shift))


def _stacked(name: str, experts: dict[int, Tensor]) -> Tensor:
    """Return experts as one tensor; of a stack with gaps the shape shows that it is not whole."""
    parts = [experts[i] for i in sorted(experts)]
    first = parts[0]
    return Tensor(
        name,
        first.kind,
        (len(parts), *first.shape),
        lambda: np.stack([part.values() for part in parts]),
        None
        if first.packed is None
        else lambda: b"".join(part.packed() for part in parts if part.packed is not None),
    )
