"""Real input that nobody here wrote: packages in a folder of their own, never committed."""

import sys
from pathlib import Path


def real_package(name: str) -> Path:
    """Return the folder of an installed package of real input.

    Raises:
        FileNotFoundError: it is not installed.
    """
    return _found(name)


def real_source(name: str) -> Path:
    """Return a downloaded source archive.

    Raises:
        FileNotFoundError: it is not there.
    """
    return _found(name)


def _found(name: str) -> Path:
    found = Path(sys.prefix, "real", name)
    if not found.exists():
        raise FileNotFoundError(f"{name} is not installed: run `make test-real`")
    return found
