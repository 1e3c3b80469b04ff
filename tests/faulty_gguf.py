"""Copies of a GGUF file with one thing changed: metadata, or the values of a tensor."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float32]
Edit = Callable[[Values], Values]

#: Metadata of the container itself, which the writer makes anew.
_CONTAINER = ("GGUF.", "general.architecture")


def edited_gguf(
    source: Path,
    target: Path,
    *,
    fields: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
    tensors: dict[str, Edit] | None = None,
) -> Path:
    """Copy ``source`` with other metadata values, some keys left out, or f32 tensors edited."""
    reader = gguf.GGUFReader(source)
    architecture = reader.get_field("general.architecture")
    writer = gguf.GGUFWriter(target, architecture.contents() if architecture else "llama")
    changed = fields or {}
    for name, field in reader.fields.items():
        if name.startswith(_CONTAINER) or name in without:
            continue
        kind, sub = field.types[0], field.types[-1]
        value = changed.get(name, field.contents())
        is_list = kind == gguf.GGUFValueType.ARRAY
        writer.add_key_value(name, value, kind, sub_type=sub if is_list else None)
    for tensor in reader.tensors:
        data = tensor.data
        if tensors and tensor.name in tensors:
            data = np.ascontiguousarray(tensors[tensor.name](np.array(data)), np.float32)
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
