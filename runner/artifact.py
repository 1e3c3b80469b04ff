"""Model files read without an engine: tensors, their types, and the digests that name them.

Every tensor is known by its GGUF name and held in Hugging Face's layout, so that one model has one
digest in whichever format it is served.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from suites.digest import file_digest, tagged_digest, tree_digest
from suites.errors import UserError

Values = npt.NDArray[np.float32]

#: Hugging Face model types whose GGUF architecture has another name.
_ARCHITECTURES = {"mistral": "llama"}
#: GGUF architectures whose q and k rows are stored in another order than Hugging Face's.
_PERMUTED = {"llama"}
_PLAIN = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
_SAFETENSORS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}


@dataclass(frozen=True)
class Tensor:
    """One stored tensor; ``values`` reads it, dequantised, in Hugging Face's layout."""

    name: str
    kind: str
    """F32, F16, BF16, Q8_0, …"""
    shape: tuple[int, ...]
    values: Callable[[], Values]


def gguf_architecture(model_type: str) -> str:
    """Return the GGUF name of a Hugging Face model type."""
    return _ARCHITECTURES.get(model_type, model_type)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        UserError: the file is missing or no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("file is missing", where=str(path), fix="give a complete model") from error
    except (OSError, ValueError) as error:
        raise UserError(f"not readable as JSON: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise UserError("expected a JSON object", where=str(path))
    return found


class HfFolder:
    """A model folder in Hugging Face's layout, with safetensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = read_json(path / "config.json")
        self.architecture = gguf_architecture(str(self.config.get("model_type", "")))

    @cached_property
    def names(self) -> dict[str, str]:
        """Hugging Face tensor name → GGUF tensor name, where GGUF has one."""
        arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}.get(self.architecture)
        layers = int(self.config.get("num_hidden_layers", 0))
        known = gguf.get_tensor_name_map(arch, layers) if arch is not None else None
        found: dict[str, str] = {}
        for name, _, _, _ in self._entries():
            mapped = known.get_name(name, try_suffixes=(".weight", ".bias")) if known else None
            found[name] = mapped or name
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its GGUF name."""
        found: dict[str, Tensor] = {}
        for name, kind, shape, read in self._entries():
            found[self.names[name]] = Tensor(self.names[name], kind, shape, read)
        return found

    def _entries(self) -> Iterator[tuple[str, str, tuple[int, ...], Callable[[], Values]]]:
        files = sorted(self.path.glob("*.safetensors"))
        if not files:
            raise UserError(
                "no safetensors file", where=str(self.path), fix="give a complete model"
            )
        for path in files:
            yield from _safetensors(path)


class GgufFile:
    """A GGUF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = gguf.GGUFReader(path)
        except FileNotFoundError as error:
            raise UserError("file is missing", where=str(path)) from error
        except (ValueError, OSError, KeyError, IndexError, OverflowError) as error:
            raise UserError(f"not readable as GGUF: {error}", where=str(path)) from error
        self.architecture = str(self.field("general.architecture") or "")

    def field(self, key: str) -> Any:
        """Return a metadata value, None if the file has none."""
        found = self._reader.get_field(key)
        return None if found is None else found.contents()

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its GGUF name, q and k in Hugging Face's row order."""
        return {
            t.name: Tensor(
                t.name,
                t.tensor_type.name,
                tuple(int(n) for n in reversed(t.shape)),
                self._reading(t),
            )
            for t in self._reader.tensors
        }

    def _reading(self, tensor: Any) -> Callable[[], Values]:
        heads = self._heads_of(tensor.name)
        shape = tuple(int(n) for n in reversed(tensor.shape))

        def read() -> Values:
            values = np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
            values = values.reshape(shape)
            return values if heads is None else _hf_row_order(values, heads)

        return read

    def _heads_of(self, name: str) -> int | None:
        if self.architecture not in _PERMUTED or not name.startswith("blk."):
            return None
        if ".attn_q." in name:
            return int(self.field(f"{self.architecture}.attention.head_count"))
        if ".attn_k." in name:
            return int(self.field(f"{self.architecture}.attention.head_count_kv"))
        return None


def open_artifact(path: Path, form: str) -> HfFolder | GgufFile:
    """Open an artifact of format ``hf`` or ``gguf``."""
    return GgufFile(path) if form == "gguf" else HfFolder(path)


def model_digests(hf: Path) -> tuple[str, str]:
    """Return the digests of a model folder's weights (``w1:``) and tokenizer (``t1:``)."""
    return _weights_digest(HfFolder(hf)), tagged_digest("t1", read_json(hf / "tokenizer.json"))


def describe_variant(path: Path, form: str) -> tuple[str, str, str]:
    """Return an artifact's digest (hex), weights type and weights digest (``w1:``).

    Raises:
        UserError: the artifact cannot be read.
    """
    artifact = open_artifact(path, form)
    digest = file_digest(path) if form == "gguf" else tree_digest(path, "*")
    return digest, weights_type(artifact), _weights_digest(artifact)


def weights_type(artifact: HfFolder | GgufFile) -> str:
    """Return f32, f16, bf16, or a quantisation's own name."""
    if isinstance(artifact, HfFolder) and (packed := artifact.config.get("quantization_config")):
        return str(packed.get("quant_method", "quantised"))
    sizes: dict[str, int] = {}
    for tensor in artifact.tensors().values():
        if len(tensor.shape) > 1:
            sizes[tensor.kind] = sizes.get(tensor.kind, 0) + math.prod(tensor.shape)
    if not sizes:
        raise UserError("holds no matrix", where=str(artifact.path))
    largest = max(sizes, key=lambda kind: sizes[kind])
    if largest in _PLAIN or isinstance(artifact, HfFolder):
        return _PLAIN.get(largest, largest)
    return _file_type_name(artifact) or largest


def _file_type_name(artifact: GgufFile) -> str | None:
    value = artifact.field("general.file_type")
    names = {int(t): t.name.removeprefix("MOSTLY_") for t in gguf.LlamaFileType}
    return names.get(int(value)) if value is not None else None


def _weights_digest(artifact: HfFolder | GgufFile) -> str:
    """Digest the dequantised values of every tensor under its GGUF name."""
    parts = {
        name: tagged_digest_of_values(tensor.values())
        for name, tensor in artifact.tensors().items()
    }
    return tagged_digest("w1", parts)


def tagged_digest_of_values(values: Values) -> str:
    """Digest a tensor's shape and fp32 values."""
    import hashlib

    body = np.ascontiguousarray(values, "<f4")
    return hashlib.sha256(repr(body.shape).encode() + body.tobytes()).hexdigest()


def _hf_row_order(values: Values, heads: int) -> Values:
    """Undo GGUF's interleaving of the two rotary halves of each head's rows."""
    rows = values.shape[0]
    halves = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


def _safetensors(
    path: Path,
) -> Iterator[tuple[str, str, tuple[int, ...], Callable[[], Values]]]:
    """Read a safetensors file by its header; numpy has no bfloat16, which the library needs."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, 100 << 20):
            raise UserError("not a safetensors file: its header is too long", where=str(path))
        try:
            header = json.loads(file.read(length))
            entries = [
                (n, e["dtype"], tuple(e["shape"]), e["data_offsets"])
                for n, e in sorted(header.items())
                if n != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"not a safetensors file: {error}", where=str(path)) from error
    for name, kind, shape, (start, end) in entries:
        if kind not in _SAFETENSORS:
            raise UserError(
                f"tensor {name} has type {kind}",
                where=str(path),
                known="types " + ", ".join(_SAFETENSORS),
            )
        if 8 + length + end > size:
            raise UserError(f"tensor {name} lies beyond the end of the file", where=str(path))

        def read(kind: str = kind, shape: tuple[int, ...] = shape, at: int = start) -> Values:
            raw = np.memmap(path, _SAFETENSORS[kind], "r", offset=8 + length + at, shape=shape)
            if kind == "BF16":
                return (np.asarray(raw).astype("<u4") << 16).view("<f4")
            return np.asarray(raw, np.float32)

        yield name, kind, shape, read
