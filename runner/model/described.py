"""What a GGUF's weights are, remembered: to dequantise billions of values takes minutes."""

import json
import os
import tempfile
from pathlib import Path

from runner.model.artifact import describe_weights, gguf_digest
from runner.model.gguf_parts import gguf_parts
from runner.source_digest import source_digest

#: Bytes from which on an answer is remembered; smaller files are read in a second.
_LARGE = 64 << 20


def describe_gguf(path: Path, cache: Path, large: int = _LARGE) -> tuple[str, str, str]:
    """Return a GGUF's digest (hex), weights type and weights digest (``w1:``).

    The answer for a large file is kept in ``cache``, by the digest of its bytes and of the code
    that computed it.

    Raises:
        UserError: the file cannot be read.
    """
    digest = gguf_digest(path)
    if sum(part.stat().st_size for part in gguf_parts(path)) < large:
        return digest, *describe_weights(path, "gguf")
    note = cache / "described" / f"{digest[:32]}-{source_digest()}.json"
    known = _read(note)
    if known is None:
        known = describe_weights(path, "gguf")
        _write(note, known)
    return digest, *known


def _read(note: Path) -> tuple[str, str] | None:
    try:
        kind, weights = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return None
    return (kind, weights) if isinstance(kind, str) and isinstance(weights, str) else None


def _write(note: Path, known: tuple[str, str]) -> None:
    """Write the note whole or not at all; without it the file is read again next time."""
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=note.parent, suffix=".tmp", delete=False, encoding="utf-8"
        ) as file:
            json.dump(known, file)
        os.replace(file.name, note)
    except OSError:
        return
