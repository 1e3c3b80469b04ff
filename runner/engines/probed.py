"""What one probe of one case saw, on its way from the engine to the supervisor."""

from dataclasses import dataclass, field, fields
from typing import Any

from runner.engines.protocol import Arrays

#: One case as it travels in an order: its question and the truth's inputs to its stage.
CaseInput = dict[str, Any]


@dataclass
class Probed:
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
    request: dict[str, Any] | None = None
    """Timing of a streamed request, in seconds."""
    seconds: float | None = None
    """Wall time of the probe."""
    unseen: str | None = None
    """``hidden`` or ``absent`` where the engine does not show, or does not have, what is asked."""
    arrays: Arrays = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        """Return the JSON part of the event; arrays travel beside it."""
        names = [f.name for f in fields(self) if f.name != "arrays"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
