"""Model files read without an engine: tensors, their types, and their digests.

Every tensor has its GGUF name and Hugging Face's layout, so one model has one digest in every
format.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from runner.model.architectures.hf_config import config_facts, text_config
from runner.model.architectures.table import gguf_name, of_gguf
from runner.model.gguf_head import StoredTensor
from runner.model.gguf_parts import gguf_parts
from runner.model.gguf_reading import GgufReading
from runner.model.layout import Place, common, places, split_by_head
from runner.model.tensors import Tensor, Values, is_derived, read_safetensors
from runner.model.texts import tokenizer_digest
from runner.model.weight_files import weight_files
from suites.digest import file_digest, tagged_digest
from suites.errors import UserError

#: The output matrix, and what takes its place where a model ties them.
HEAD, EMBEDDING = "output.weight", "token_embd.weight"
_FACTORS = ("rope_freqs", "rope_factors_long", "rope_factors_short")
_PLAIN = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
#: The files of a folder that are the model; other files in it do not change its digest.
_MODEL_FILES = (".safetensors", ".json", ".jinja")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder.

    Raises:
        UserError: the file is missing, or is not a JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError("file is missing", where=str(path), fix="give a complete model") from error
    except UnicodeDecodeError as error:
        what = f"not UTF-8 text: byte {error.start} is wrong"
        raise UserError(what, where=str(path), fix="download the file again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"not readable as JSON: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise UserError("expected a JSON object", where=str(path))
    return found


class HfFolder:
    """A model folder in Hugging Face's layout, with safetensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = text_config(read_json(path / "config.json"))
        self.architecture = gguf_name(str(self.config.get("model_type", "")))

    @property
    def quantisation(self) -> str | None:
        """How the weights are packed (awq, gptq, fp8, …); None if they are plain numbers."""
        packed = self.config.get("quantization_config")
        if not packed:
            return None
        method = packed.get("quant_method") if isinstance(packed, dict) else None
        return method if isinstance(method, str) and method else "quantised"

    def ties_head(self, name: str) -> bool:
        """Whether a tensor is an output matrix that engines replace by the embedding."""
        return name == HEAD and config_facts(self.config).get("tied_head") is True

    @cached_property
    def places(self) -> dict[str, Place]:
        """Hugging Face tensor name → where it lies in the common layout."""
        layers = self.config.get("num_hidden_layers") or 0
        if type(layers) is not int or layers < 0:
            where = str(self.path / "config.json")
            raise UserError(f"num_hidden_layers is {layers!r}, not a count", where=where)
        return places([tensor.name for tensor in self._stored()], self.architecture, layers)

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its name in the common layout."""
        return common(self._stored(), self.places)

    def _stored(self) -> Iterator[Tensor]:
        for path in weight_files(self.path):
            for tensor in read_safetensors(path, self.quantisation):
                if not is_derived(tensor.name):
                    yield tensor


class GgufFile:
    """A GGUF file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reading = GgufReading(path)
        """All parts of a split model."""
        self.architecture = str(self.field("general.architecture") or "")

    def field(self, key: str) -> Any:
        """Return a metadata value, None if the file has none."""
        found = self.reading.metadata.get(key)
        return found.tolist() if isinstance(found, np.ndarray) else found

    def keys(self) -> list[str]:
        """Return the names of all metadata."""
        return list(self.reading.metadata)

    def factors(self) -> dict[str, list[float]]:
        """Return the factors of the rotary frequencies that the file holds as tensors, by name."""
        tensors = self.reading.tensors
        stored = {name: tensors.get(f"{name}.weight") for name in _FACTORS}
        return {n: self.reading.values(t).ravel().tolist() for n, t in stored.items() if t}

    def has_head(self) -> bool:
        """Whether it holds an output matrix of its own."""
        return HEAD in self.reading.tensors

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its GGUF name, q and k in Hugging Face's row order."""
        return {
            t.name: Tensor(t.name, t.kind.name, t.shape, self._reader_of(t))
            for t in self.reading.tensors.values()
            if not is_derived(t.name)
        }

    def _reader_of(self, tensor: StoredTensor) -> Callable[[], Values]:
        heads, shape = self._heads_of(tensor.name), tensor.shape
        grouped = self._grouped_heads(tensor.name)

        divisor = 3 * grouped if grouped is not None else 2 * (heads or 1)
        if (heads or grouped) and shape[0] % divisor:
            count = heads or grouped
            what = f"{tensor.name} has {shape[0]} rows, which cannot be divided by {count} heads"
            raise UserError(what, where=str(self.path))

        def read() -> Values:
            values = self.reading.values(tensor)
            if grouped is not None:
                return split_by_head(values, grouped)
            return values if heads is None else _hf_row_order(values, heads)

        return read

    def _heads_of(self, name: str) -> int | None:
        if not any(known.permuted for known in of_gguf(self.architecture)) or not name.startswith(
            "blk."
        ):
            return None
        if ".attn_q." in name:
            return self._head_count("head_count")
        if ".attn_k." in name:
            # Without grouped queries the field is left out: every head has its own keys.
            grouped = f"{self.architecture}.attention.head_count_kv"
            return self._head_count(
                "head_count" if self.field(grouped) is None else "head_count_kv"
            )
        return None

    def _grouped_heads(self, name: str) -> int | None:
        """Return the number of heads where q, k and v are interleaved by head elsewhere."""
        grouped = any(known.grouped_qkv for known in of_gguf(self.architecture))
        return self._head_count("head_count") if grouped and ".attn_qkv." in name else None

    def _head_count(self, key: str) -> int:
        found = self.field(f"{self.architecture}.attention.{key}")
        if type(found) is not int or found <= 0:
            what = f"{self.architecture}.attention.{key} is {found!r}, not a number of heads"
            raise UserError(what, where=str(self.path))
        return found


def open_artifact(path: Path, form: str) -> HfFolder | GgufFile:
    """Open an artifact of format ``hf`` or ``gguf``."""
    return GgufFile(path) if form == "gguf" else HfFolder(path)


def model_digests(hf: Path) -> tuple[str, str]:
    """Return the digests of a model folder's weights (``w1:``) and texts (``t2:``)."""
    return _weights_digest(HfFolder(hf)), tokenizer_digest(hf)


def describe_variant(path: Path, form: str) -> tuple[str, str, str]:
    """Return an artifact's digest (hex), weights type and weights digest (``w1:``).

    Raises:
        UserError: the artifact cannot be read.
    """
    digest = gguf_digest(path) if form == "gguf" else _folder_digest(path)
    return digest, *describe_weights(path, form)


def describe_weights(path: Path, form: str) -> tuple[str, str]:
    """Return an artifact's weights type and weights digest (``w1:``); reads all its values.

    Raises:
        UserError: the artifact cannot be read.
    """
    artifact = open_artifact(path, form)
    return weights_type(artifact), _weights_digest(artifact)


def gguf_digest(path: Path) -> str:
    """Return the sha256 of a GGUF model's bytes, in hex; of all parts of a split one."""
    parts = gguf_parts(path)
    if len(parts) == 1:
        return file_digest(path)
    return hashlib.sha256("".join(file_digest(part) for part in parts).encode()).hexdigest()


def weights_type(artifact: HfFolder | GgufFile) -> str:
    """Return f32, f16, bf16, or a quantisation's own name."""
    if isinstance(artifact, HfFolder) and artifact.quantisation:
        return artifact.quantisation
    sizes: dict[str, int] = {}
    for tensor in artifact.tensors().values():
        if len(tensor.shape) > 1:
            sizes[tensor.kind] = sizes.get(tensor.kind, 0) + math.prod(tensor.shape)
    if not sizes:
        raise UserError("has no tensor of two or more dimensions", where=str(artifact.path))
    largest = max(sizes, key=lambda kind: sizes[kind])
    if largest in _PLAIN or isinstance(artifact, HfFolder):
        return _PLAIN.get(largest, largest)
    return _file_type_name(artifact) or largest


def _file_type_name(artifact: GgufFile) -> str | None:
    value = artifact.field("general.file_type")
    names = {int(t): t.name.removeprefix("MOSTLY_") for t in gguf.LlamaFileType}
    return names.get(value) if isinstance(value, int) else None


def _weights_digest(artifact: HfFolder | GgufFile) -> str:
    """Digest the values of every tensor under its GGUF name."""
    parts = {name: tensor.digest() for name, tensor in artifact.tensors().items()}
    return tagged_digest("w1", parts)


def _folder_digest(folder: Path) -> str:
    """Return the sha256 over the names and bytes of a model folder's own files."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in _MODEL_FILES and p.is_file()):
        found.update(f"{path.name}\0{file_digest(path)}\0".encode())
    return found.hexdigest()


def _hf_row_order(values: Values, heads: int) -> Values:
    """Undo GGUF's interleaving of the two rotary halves of each head's rows."""
    rows = values.shape[0]
    halves = values.reshape(heads, rows // heads // 2, 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
