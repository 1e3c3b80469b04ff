"""Real input that nobody here wrote: packages in a folder of their own, never committed."""

import sys
from pathlib import Path


def real_package(name: str) -> Path:
    """Return the folder of an installed package of real input.

    Raises:
        FileNotFoundError: it is not installed.
    """
    found = Path(sys.prefix, "real", name)
    if not found.is_dir():
        raise FileNotFoundError(f"{name} is not installed: run `make test-real`")
    return found
