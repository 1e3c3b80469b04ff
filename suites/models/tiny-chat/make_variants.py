"""Make GGUF files of the HF model in this folder, in one or more number formats.

    python suites/models/tiny-chat/make_variants.py [--types f16,bf16,q8_0] [--out DIR]

Everything is read from the HF files.  Needs numpy and gguf only; the same input always gives
the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gguf_writer import FORMATS, write_gguf

DEFAULT_TYPES: Final = ("f16", "bf16", "q8_0")
"""The types that are not kept in the repository."""


def make_variants(model: Path, out: Path, types: Iterable[str]) -> list[Path]:
    """Write ``tiny-chat-TYPE.gguf`` in ``out`` for each type, from the HF directory ``model``."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in types:
        path = out / f"tiny-chat-{kind}.gguf"
        write_gguf(model, path, kind)
        paths.append(path)
    return paths


def main() -> None:
    """Read the command line and make the files."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Make GGUF files of tiny-chat.")
    parser.add_argument(
        "--types",
        default=",".join(DEFAULT_TYPES),
        help=f"comma-separated, of {', '.join(FORMATS)} (default: %(default)s)",
    )
    parser.add_argument("--model", type=Path, default=here, help="HF directory to read")
    parser.add_argument("--out", type=Path, default=here, help="folder to write to")
    args = parser.parse_args()
    types = args.types.split(",")
    unknown = [kind for kind in types if kind not in FORMATS]
    if unknown:
        parser.error(f"unknown type: {', '.join(unknown)}")
    for path in make_variants(args.model, args.out, types):
        print(f"{path}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
