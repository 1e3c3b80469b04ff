"""The digest of the runner's source: an attempt refuses to run on other source than was ordered."""

import functools
from pathlib import Path

from suites.digest import tree_digest


@functools.cache
def source_digest() -> str:
    """Return the digest of the imported ``runner`` package, the engine child included."""
    return tree_digest(Path(__file__).parent, "*.py")[:16]
