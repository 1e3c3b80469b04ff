"""Is the artifact the model? Each tensor of the served file is measured against the model's own."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from runner.model.architectures.table import of_gguf
from runner.model.artifact import EMBEDDING, HEAD, GgufFile, HfFolder, open_artifact
from runner.model.layout import shown_names
from runner.model.tensors import Tensor, Values
from runner.order import Model, Variant
from suites.errors import UserError

#: Facts of one tensor: its Hugging Face name, and what was measured.
TensorFacts = tuple[str, dict[str, Any]]


def tensor_facts(model: Model, variant: Variant) -> Iterator[TensorFacts]:
    """Measure each tensor after dequantisation; a tensor that only one side has is listed too.

    ``relative_rmse`` is ‖seen − model‖ / ‖model‖, ``scale`` the factor that fits seen ≈ scale·model
    best, ``mismatched`` the number of elements that differ from the model's values cast to the
    type. It is None for quantised types, where every element may, unless the model was taken from a
    GGUF in which this tensor has the same type: then it is the model's own to the last bit. Tensors
    that are derived from the configuration are left out on both sides. What a converter changes on
    purpose is undone first.

    Raises:
        UserError: one side is packed in a way that cannot be dequantised yet.
        UnknownLayout: nobody knows what a converter changes in this architecture.
    """
    truth = HfFolder(model.hf)
    artifact = open_artifact(variant.path, variant.format)
    for side in (truth, artifact):
        # Packed tensors have other names and shapes: each of them would seem to be missing.
        if isinstance(side, HfFolder) and side.quantisation:
            raise UserError(f"cannot dequantise {side.quantisation} yet", where=str(side.path))
    if isinstance(artifact, GgufFile) and not of_gguf(truth.architecture):
        raise UnknownLayout(truth.architecture)
    seen, wanted = artifact.tensors(), _as_written(truth, artifact)
    if truth.ties_head(HEAD):
        # Engines take the embedding for it: what one side holds beside that must be the same.
        wanted.pop(HEAD, None)
        if isinstance(artifact, HfFolder):
            seen.pop(HEAD, None)
        elif HEAD in seen and EMBEDDING in wanted:
            wanted[HEAD] = wanted[EMBEDDING]
    names, types = shown_names(truth.places), _types_of_the_model(model)
    for name in sorted(seen.keys() | wanted.keys()):
        facts = _facts(seen.get(name), wanted.get(name), types.get(name))
        yield names.get(name, name), facts


def _types_of_the_model(model: Model) -> dict[str, str]:
    """Return tensor → type as stored in the GGUF that was taken as the model; else nothing."""
    if model.made_from is None or model.gguf_digest is None:
        return {}
    return {name: t.kind for name, t in GgufFile(model.made_from).tensors().items()}


class UnknownLayout(Exception):
    """An architecture whose tensors in GGUF files cannot be compared with the model's own."""

    def __init__(self, architecture: str) -> None:
        super().__init__(
            f"the architecture {architecture} is not known, so nobody knows what a converter to "
            "GGUF changes in its tensors: they are not compared"
        )


def _as_written(truth: HfFolder, artifact: HfFolder | GgufFile) -> dict[str, Tensor]:
    """Return the model's tensors without the rows that the converter leaves out."""
    wanted = truth.tensors()
    cuts = any(known.cut_embeddings for known in of_gguf(truth.architecture))
    if not cuts or isinstance(artifact, HfFolder):
        return wanted
    rows = len(artifact.field("tokenizer.ggml.tokens") or ())
    for name in {EMBEDDING, HEAD} & wanted.keys():
        if 0 < rows < wanted[name].shape[0]:
            wanted[name] = _first_rows(wanted[name], rows)
    return wanted


def _first_rows(tensor: Tensor, rows: int) -> Tensor:
    read = tensor.values
    return replace(tensor, shape=(rows, *tensor.shape[1:]), values=lambda: read()[:rows])


def _facts(
    seen: Tensor | None, wanted: Tensor | None, type_of_the_model: str | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "type": seen.kind if seen else None,
        "seen_shape": list(seen.shape) if seen else None,
        "model_shape": list(wanted.shape) if wanted else None,
    }
    if seen is None:
        return facts
    values = seen.values()
    facts["nonfinite"] = int(np.count_nonzero(~np.isfinite(values)))
    if wanted is not None and wanted.shape == seen.shape:
        cast = _same if seen.kind == type_of_the_model else _CASTS.get(seen.kind)
        facts |= _difference(values, wanted.values(), cast)
    return facts


def _difference(
    seen: Values, model: Values, cast: Callable[[Values], Values] | None
) -> dict[str, Any]:
    a, b = seen.astype(np.float64).ravel(), model.astype(np.float64).ravel()
    finite = np.isfinite(a)
    a, b = a[finite], b[finite]
    power = float(np.dot(b, b))
    return {
        "mismatched": None if cast is None else int(np.count_nonzero(seen != cast(model))),
        "relative_rmse": float(np.linalg.norm(a - b) / np.sqrt(power)) if power else None,
        "scale": float(np.dot(a, b) / power) if power else None,
        "max_abs": float(np.max(np.abs(a - b), initial=0.0)),
    }


def _same(values: Values) -> Values:
    return values


def _through_f16(values: Values) -> Values:
    return values.astype(np.float16).astype(np.float32)


def _through_bf16(values: Values) -> Values:
    """Round to bfloat16, to nearest and ties to even, as ggml and torch do."""
    bits = values.astype("<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    found: Values = rounded.astype("<u4").view("<f4")
    return found


#: Types that only cast the model's values, and that cast.
_CASTS = dict.fromkeys(("F32", "F64", "I64", "I32", "I16", "I8", "U8", "BOOL"), _same) | {
    "F16": _through_f16,
    "BF16": _through_bf16,
}
