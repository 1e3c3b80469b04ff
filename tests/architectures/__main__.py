"""Write a tiny model: ``python -m tests.architectures NAME FOLDER``, with its GGUF file in it."""

import sys
from pathlib import Path

from tests.architectures.gguf_file import write_gguf
from tests.architectures.tiny import write_tiny

if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    print(write_gguf(write_tiny(name, folder), folder / f"{name}.gguf"))
