"""What one probe of one case saw, on its way from the engine to the supervisor."""

from dataclasses import dataclass, field
from typing import Any, Literal

from runner.engines.protocol import Arrays
from runner.engines.typed_json import BESIDE


@dataclass
class Trace:
    """One trace; fields that a stage does not use stay None."""

    stage: str
    case_id: str
    probe: str
    repeat: int = 0
    prompt_text: str | None = None
    prompt_ids: list[int] | None = None
    output_ids: list[int] | None = None
    text: str | None = None
    message: dict[str, Any] | None = None
    finish_reason: str | None = None
    value: dict[str, Any] | None = None
    error: str | None = None
    timing: "Timing | None" = None
    """Of a streamed request."""
    seconds: float | None = None
    """Wall time of the probe."""
    unseen: Literal["hidden", "absent"] | None = None
    """Where the engine does not show, or does not have, what is asked."""
    arrays: Arrays = field(default_factory=dict, metadata=BESIDE)
    """Numbers by position: see ``ARRAYS``."""


@dataclass(frozen=True)
class Timing:
    """When the parts of a streamed answer came."""

    itl_s: list[float]
    """Seconds between one piece and the next."""
    e2el_s: float
    """Seconds to the end of the answer."""
    ttft_s: float | None = None
    """Seconds to the first piece; None when nothing came."""
    prompt_tokens: int | None = None
    """None where neither the ids nor their number are shown."""
    output_tokens: int | None = None


#: How a stage is seen: spied on in the engine's chat path, stated by a server, or called by us.
OBSERVED = ("path", "endpoint", "reenacted")
#: Why a stage has no trace, as stored in ``observed``.
NOT_OBSERVED = {
    "hidden": "the engine has this stage but does not show it",
    "absent": "the engine has no such stage",
    "not_probed": "fleetqual does not probe this stage yet",
}

#: The arrays of a trace: number of dimensions, and whether they hold integers.
ARRAYS: dict[str, tuple[int, bool]] = {
    "logprobs": (1, False),
    "ref_topk_logprobs": (2, False),
    "tail_logprob": (1, False),
    "top_ids": (2, True),
}
