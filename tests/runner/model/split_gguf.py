"""A GGUF model in several files."""

from pathlib import Path

import gguf


def split_gguf(path: Path, folder: Path, count: int) -> list[Path]:
    """Write a llama model in parts, as ``llama-gguf-split`` does; return them in their order."""
    whole = gguf.GGUFReader(path)
    paths = [folder / f"tiny-{n:05}-of-{count:05}.gguf" for n in range(1, count + 1)]
    for number, part in enumerate(paths):
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(whole.tensors))
        if number == 0:
            for key, field in whole.fields.items():
                if not key.startswith(("GGUF.", "general.architecture")):
                    kinds = field.types
                    inner = kinds[1] if len(kinds) > 1 else None
                    writer.add_key_value(key, field.contents(), kinds[0], sub_type=inner)
        for tensor in whole.tensors[number::count]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths
