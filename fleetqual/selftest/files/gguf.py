"""Copies of a GGUF file with one change: in metadata, in the template, or in some tensors."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from fleetqual.selftest.files.tensors import (
    BLOCKS,
    EditContext,
    edited,
    edited_blocks,
    edits_of,
    refuse_edits_without_effect,
)
from fleetqual.selftest.injections import GgufInjection, TensorEdit
from suites.errors import UserError

#: Metadata of the container itself; the writer creates it again.
_CONTAINER = ("GGUF.", "general.architecture")
_TEMPLATE = "tokenizer.chat_template"


def faulty_gguf(source: Path, target: Path, injection: GgufInjection) -> Path:
    """Copy a GGUF file with one fault; everything else keeps its bytes.

    Raises:
        UserError: the fault names something that the file does not have, or changes nothing.
    """
    reader = gguf.GGUFReader(source)
    architecture = _content(reader, "general.architecture") or "llama"
    writer = gguf.GGUFWriter(target, architecture)
    changed = _changed(reader, injection, source)
    for name, field in reader.fields.items():
        if name.startswith(_CONTAINER) or name in injection.without:
            continue
        kind, sub = field.types[0], field.types[-1]
        value = changed.get(name, field.contents())
        is_list = kind == gguf.GGUFValueType.ARRAY
        writer.add_key_value(name, value, kind, sub_type=sub if is_list else None)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    edits = edits_of(injection.tensors, list(tensors), str(source))
    without_effect = list(injection.tensors)
    context = EditContext(
        lambda name: _values(tensors[name]), _heads(reader, architecture, list(tensors))
    )
    for tensor in reader.tensors:
        own = edits.get(tensor.name, [])
        if any(edit.op == "drop" for edit in own):
            without_effect = [
                edit for edit in without_effect if edit.op != "drop" or edit not in own
            ]
            continue
        data = tensor.data
        for edit in own:
            before, data = data, _edited(tensor, data, edit, context)
            if np.ascontiguousarray(before).tobytes() != np.ascontiguousarray(data).tobytes():
                without_effect = [other for other in without_effect if other != edit]
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    refuse_edits_without_effect(without_effect, str(source))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _changed(reader: Any, injection: GgufInjection, source: Path) -> dict[str, Any]:
    changed = dict(injection.fields)
    if injection.template is not None:
        old, new = injection.template
        text = _content(reader, _TEMPLATE) or ""
        if old not in text:
            raise UserError(f"its template does not contain {old!r}", where=str(source))
        changed[_TEMPLATE] = text.replace(old, new, 1)
    if injection.whole_template is not None:
        changed[_TEMPLATE] = injection.whole_template
    for name in (*changed, *injection.without):
        if name not in reader.fields:
            raise UserError(f"has no metadata {name!r}", where=str(source))
    for name, value in changed.items():
        if value == _content(reader, name):
            raise UserError(f"{name!r} has the fault's value already", where=str(source))
    return changed


def _content(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()


def _values(tensor: Any) -> Any:
    shape = tuple(int(n) for n in reversed(tensor.shape))
    found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return np.asarray(found, np.float32).reshape(shape)


def _edited(tensor: Any, data: Any, edit: TensorEdit, context: EditContext) -> Any:
    """Return a tensor's data after one more edit, in its stored type."""
    kind = tensor.tensor_type
    plain = kind in (
        gguf.GGMLQuantizationType.F32,
        gguf.GGMLQuantizationType.F16,
        gguf.GGMLQuantizationType.BF16,
    )
    if plain:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        values = gguf.quants.dequantize(data, kind).reshape(shape)
        return gguf.quants.quantize(edited(tensor.name, values, edit, context), kind)
    if kind.name not in BLOCKS:
        known = ", ".join(BLOCKS)
        raise UserError(f"blocks of {kind.name} cannot be edited ({tensor.name})", known=known)
    return edited_blocks(tensor.name, np.array(data), edit, kind.name)


def _heads(reader: Any, architecture: str, names: list[str]) -> dict[str, int]:
    """Return each tensor whose rows GGUF interleaves, with its number of heads."""
    if architecture != "llama":
        return {}
    counts = {
        key: _content(reader, f"{architecture}.attention.{count}")
        for key, count in ((".attn_q.weight", "head_count"), (".attn_k.weight", "head_count_kv"))
    }
    return {
        name: int(heads)
        for name in names
        for key, heads in counts.items()
        if name.endswith(key) and heads
    }
