"""A GGUF's tensors as fp32 safetensors under Hugging Face's names."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import save_file

from runner.model.artifact import GgufFile
from runner.model.folder.architectures import Architecture
from runner.model.tensors import Tensor, Values
from suites.errors import UserError

#: Bytes of one file; a larger model is sharded, so that never more than this is in memory.
_SHARD = 2 << 30


@dataclass(frozen=True)
class _Named:
    name: str
    size: int
    """Bytes in fp32."""
    values: Callable[[], Values]


def plain_size(artifact: GgufFile) -> int:
    """Return the bytes that all tensors take in fp32."""
    return sum(math.prod(t.shape) * 4 for t in artifact.tensors().values())


def write_weights(artifact: GgufFile, architecture: Architecture, folder: Path) -> None:
    """Write model.safetensors, or shards with their index.

    Raises:
        UserError: a tensor is not one of the architecture, or cannot be dequantised.
    """
    shards = _shards(
        part
        for tensor in artifact.tensors().values()
        for part in _renamed(artifact, architecture, tensor)
    )
    files: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        body = {part.name: part.values() for part in shard}
        save_file(body, folder / name, metadata={"format": "pt"})
        files |= dict.fromkeys(body, name)
    if len(shards) > 1:
        total = sum(part.size for shard in shards for part in shard)
        index = {"metadata": {"total_size": total}, "weight_map": files}
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2), encoding="utf-8")


def _shards(parts: Iterator[_Named]) -> list[list[_Named]]:
    shards: list[list[_Named]] = [[]]
    size = 0
    for part in parts:
        if shards[-1] and size + part.size > _SHARD:
            shards.append([])
            size = 0
        shards[-1].append(part)
        size += part.size
    return shards


def _renamed(artifact: GgufFile, architecture: Architecture, tensor: Tensor) -> Iterator[_Named]:
    """Yield a tensor under its name; one that holds all experts is cut into one of each."""
    name = architecture.hugging_face_name(tensor.name)
    if name is None:
        raise UserError(
            f"the tensor {tensor.name} is not one of {architecture.class_name}",
            where=str(artifact.path),
            fix="give the model's Hugging Face folder; the GGUF is then one of its variants",
        )
    size = math.prod(tensor.shape) * 4
    if "{}" not in name:
        yield _Named(name, size, tensor.values)
        return
    for expert in range(tensor.shape[0]):
        cut = _expert(tensor, expert)
        yield _Named(name.format(expert), size // tensor.shape[0], cut)


def _expert(tensor: Tensor, number: int) -> Callable[[], Values]:
    def read() -> Values:
        found: Values = tensor.values()[number].copy()
        return found

    return read
