"""The digest of all that a probe saw: equal digests mean bitwise equal payloads."""

import hashlib
from typing import Any

from runner.engines.protocol import Arrays
from suites.digest import canonical_json

#: Columns that are payload, apart from the arrays.
_SEEN = ("prompt_text", "prompt_ids", "output_ids", "text", "message", "finish_reason", "value")


def payload_digest(columns: dict[str, Any], arrays: Arrays) -> str | None:
    """Return ``p1:…``, or None when nothing was seen (an error, or a stage not observed)."""
    seen = {name: columns[name] for name in _SEEN if columns.get(name) is not None}
    if not seen and not arrays:
        return None
    h = hashlib.sha256(canonical_json(seen).encode("utf-8", "surrogatepass"))
    for name in sorted(arrays):
        h.update(name.encode() + repr(arrays[name].shape).encode() + arrays[name].tobytes())
    return f"p1:{h.hexdigest()[:16]}"
