"""Known faults that an engine entry may carry: the self-test puts them there."""

from suites.stages import Stage
from suites.suite import Frozen


class AdapterFault(Frozen):
    """A mutation of an engine's adapter: it acts where that stage of the engine would."""

    at: Stage
    how: str
    """Name of the mutation; ``runner/engines/faults/adapter`` has them."""
    by: float | None = None
    """Strength; the mutation's own when left out."""
    first: int | None = None
    last: int | None = None
    """Range it acts in: positions, batch sizes, chunks, ids."""
    seed: int = 0
    stream: bool = False
    """Only streamed answers are harmed (detokenize)."""


class ProxyFault(Frozen):
    """A gateway before the server that changes what passes."""

    how: str
    """Name of the mutation; ``runner/engines/faults/gateway`` has them."""
    by: float | None = None
    """Strength; the mutation's own when left out."""
    seed: int = 0
    """Which requests are hit, where only a share is."""
    second: str | None = None
    """Base URL of another server, or another model of the same, for what is sent elsewhere."""
