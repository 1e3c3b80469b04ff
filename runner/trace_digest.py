"""The digest of all that a probe saw: equal digests mean bitwise equal payloads."""

import hashlib

from runner.engines.trace import Trace
from suites.digest import canonical_json

#: Fields of a trace that are payload, apart from the arrays.
_SEEN = ("prompt_text", "prompt_ids", "output_ids", "text", "message", "finish_reason", "value")


def trace_digest(trace: Trace) -> str | None:
    """Return ``p1:…``, or None when nothing was seen (an error, or a stage not observed)."""
    seen = {name: found for name in _SEEN if (found := getattr(trace, name)) is not None}
    if not seen and not trace.arrays:
        return None
    h = hashlib.sha256(canonical_json(seen).encode("utf-8", "surrogatepass"))
    for name in sorted(trace.arrays):
        array = trace.arrays[name]
        h.update(name.encode() + repr(array.shape).encode() + array.tobytes())
    return f"p1:{h.hexdigest()[:16]}"
