"""What a position of a reference costs, by vocabulary: ``make bench`` (a few seconds).

It prints ratios within this one run: seconds depend on the machine and on what else runs there.
Bytes are those that travel from the engine child, and those of a whole row that does not.
"""

import io
import time
from collections.abc import Callable

import numpy as np

from runner.engines.events import EventWriter, TraceSeen
from runner.engines.probes.distribution import (
    OWN_TOP_K,
    REFERENCE_TOP_K,
    distribution_payload,
    largest,
)
from runner.engines.probes.positions import MOST, informative
from runner.engines.trace import Trace

VOCABULARIES = (2_048, 49_152, 151_936, 262_144)
POSITIONS = 16
_REPEATS = 3


def main() -> None:
    """Print bytes and relative seconds per position, and the parts of one summary."""
    rng = np.random.default_rng(1)
    print(f"{'vocabulary':>10} {'row B':>9} {'sent B':>7} {'share':>7} {'frozen':>7} {'judged':>7}")
    base = None
    for size in VOCABULARIES:
        logits = rng.normal(0, 4, (POSITIONS, size)).astype(np.float32)
        following = rng.integers(0, size, POSITIONS).astype(np.int32)
        frozen = distribution_payload(logits, following, None)
        sent = _sent(Trace("logits", "x", "prefill", arrays=frozen)) / POSITIONS
        top = frozen["top_ids"]
        seconds = (
            _seconds(lambda x=logits, f=following: distribution_payload(x, f, None)),
            _seconds(lambda x=logits, f=following, t=top: distribution_payload(x, f, t)),
        )
        base = base or seconds[0]
        own, gathered = (s / base for s in seconds)
        row = 4 * size
        print(f"{size:>10} {row:>9} {sent:>7.0f} {sent / row:>7.2%} {own:>6.1f}x {gathered:>6.1f}x")
    _parts(rng)
    long = informative(rng.random(10_000)) or []
    print(f"a sequence of 10,000 tokens keeps {len(long)} positions (at most {MOST})")


def _parts(rng: np.random.Generator) -> None:
    """Print how the time of a summary over the largest vocabulary is divided."""
    logits = rng.normal(0, 4, (POSITIONS, VOCABULARIES[-1])).astype(np.float32)
    following = np.zeros(POSITIONS, np.int32)
    whole = _seconds(lambda: distribution_payload(logits, following, None))
    parts = {
        f"the {REFERENCE_TOP_K} most probable ids": _seconds(
            lambda: largest(logits, REFERENCE_TOP_K)
        ),
        f"the {OWN_TOP_K} most probable ids": _seconds(lambda: largest(logits, OWN_TOP_K)),
        "float64 and its exponentials": _seconds(
            lambda: np.exp(logits.astype(np.float64)).sum(axis=1)
        ),
    }
    print(f"of a summary over {VOCABULARIES[-1]} tokens:")
    for name, seconds in parts.items():
        print(f"  {name:<28} {seconds / whole:6.0%}")


def _sent(trace: Trace) -> int:
    stream = io.BytesIO()
    EventWriter(stream).write(TraceSeen("c1:0", trace))
    return len(stream.getvalue())


def _seconds(work: Callable[[], object]) -> float:
    """Return the least seconds of a few repeats: others compute on this machine too."""
    found = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


if __name__ == "__main__":
    main()
