"""Known faults that an engine entry may have; the self-test writes them."""

from suites.stages import Stage
from suites.suite import Frozen


class AdapterFault(Frozen):
    """A fault in an engine's adapter: it changes what the engine does at one stage."""

    at: Stage
    how: str
    """Name of the fault; ``runner/engines/faults/adapter`` has the list."""
    by: float | None = None
    """Strength; the fault's own default when left out."""
    first: int | None = None
    last: int | None = None
    """Range in which it acts: positions, batch sizes, chunks or ids."""
    seed: int = 0
    stream: bool = False
    """Change only streamed answers (detokenize)."""


class ProxyFault(Frozen):
    """A fault-injecting proxy in front of the server: it changes requests or answers."""

    how: str
    """Name of the fault; ``runner/engines/faults/gateway`` has the list."""
    by: float | None = None
    """Strength; the fault's own default when left out."""
    seed: int = 0
    """Selects the requests, for faults that change only a share of them."""
    second: str | None = None
    """Base URL of another server, or another model of the same server, for redirected requests."""
