"""Tagged content digests: the identity of everything that fleetqual compares.

A digest is ``<tag>:<hex>``. The tag names the kind of thing and the version of the rule that
computed it (``c1`` = cell, rule 1), so digests of different rules are never equal.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of ``value``: sorted keys, no spaces. NaN raises ValueError."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def tagged_digest(tag: str, value: Any, length: int = 16) -> str:
    """Return ``tag:hex`` over the canonical JSON of ``value`` (``length`` hex digits)."""
    return f"{tag}:{hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]}"


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    return _feed(lambda h: _read_into(path, h))


def tree_digest(root: Path, pattern: str) -> str:
    """Return the sha256 over the relative names and bytes of the files matching ``pattern``."""

    def feed(h: "hashlib._Hash") -> None:
        for path in sorted(p for p in root.rglob(pattern) if p.is_file()):
            h.update(path.relative_to(root).as_posix().encode() + b"\0")
            _read_into(path, h)

    return _feed(feed)


def _feed(write: Callable[["hashlib._Hash"], None]) -> str:
    h = hashlib.sha256()
    write(h)
    return h.hexdigest()


def _read_into(path: Path, h: "hashlib._Hash") -> None:
    with path.open("rb") as f:
        while block := f.read(_CHUNK):
            h.update(block)
