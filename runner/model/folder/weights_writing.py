"""A GGUF's tensors as fp32 safetensors under Hugging Face's names."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import save_file

from runner.model.artifact import GgufFile
from runner.model.folder.architectures import Architecture
from runner.model.layout import Place, places
from runner.model.tensors import Tensor, Values
from suites.errors import UserError

#: Bytes of one file; a larger model is sharded, so that never more than this is in memory.
_SHARD = 2 << 30


@dataclass(frozen=True)
class _Named:
    """A tensor under Hugging Face's name, and where its values lie in the common layout."""

    name: str
    place: Place
    source: Tensor

    @property
    def size(self) -> int:
        """Bytes in fp32."""
        whole = math.prod(self.source.shape) * 4
        return whole if self.place.expert is None else whole // self.source.shape[0]


def plain_size(artifact: GgufFile) -> int:
    """Return the bytes that all tensors take in fp32."""
    return sum(math.prod(t.shape) * 4 for t in artifact.tensors().values())


def write_weights(artifact: GgufFile, architecture: Architecture, folder: Path) -> None:
    """Write model.safetensors, or shards with their index.

    Raises:
        UserError: a tensor is not one of the architecture, or cannot be dequantised.
    """
    shards = _shards(_renamed(artifact, architecture))
    files: dict[str, str] = {}
    reader = _Reader()
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        body = {part.name: part.place.taken_from(reader.values(part.source)) for part in shard}
        save_file(body, folder / name, metadata={"format": "pt"})
        # The library makes the file for its owner alone.
        (folder / name).chmod(0o644)
        files |= dict.fromkeys(body, name)
    if len(shards) > 1:
        total = sum(part.size for shard in shards for part in shard)
        index = {"metadata": {"total_size": total}, "weight_map": files}
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2), encoding="utf-8")


def _shards(parts: Iterable[_Named]) -> list[list[_Named]]:
    shards: list[list[_Named]] = [[]]
    size = 0
    for part in parts:
        if shards[-1] and size + part.size > _SHARD:
            shards.append([])
            size = 0
        shards[-1].append(part)
        size += part.size
    return shards


class _Reader:
    """Dequantises a tensor once for all its experts, which come one after the other."""

    def __init__(self) -> None:
        self._last: tuple[Tensor, Values] | None = None

    def values(self, tensor: Tensor) -> Values:
        if self._last is None or self._last[0] is not tensor:
            self._last = None
            self._last = tensor, tensor.values()
        return self._last[1]


def _renamed(artifact: GgufFile, architecture: Architecture) -> list[_Named]:
    """Return all tensors under their names; one that holds all experts is cut into one of each."""
    sources: dict[str, Tensor] = {}
    for tensor in artifact.tensors().values():
        name = architecture.hugging_face_name(tensor.name)
        if name is None:
            raise UserError(
                f"the tensor {tensor.name} is not one of {architecture.class_name}",
                where=str(artifact.path),
                fix="give the model's Hugging Face folder; the GGUF is then one of its variants",
            )
        count = tensor.shape[0] if "{}" in name else 1
        sources |= {name.format(expert): tensor for expert in range(count)}
    layers = artifact.field(f"{artifact.architecture}.block_count")
    where = places(list(sources), artifact.architecture, layers)
    return [_Named(name, where[name], tensor) for name, tensor in sources.items()]
