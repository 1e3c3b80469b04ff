"""The events of an engine child, as they travel: what it has done, and what its probes saw.

The child writes them, and the supervisor reads them. Their sender runs foreign code, so each is
checked when it is read: an event is either whole and of the declared types, or a ProtocolError.
"""

from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal

from runner.engines.base import STAGES
from runner.engines.protocol import PROTOCOL_VERSION, Arrays, ProtocolError, write_frame
from runner.engines.redaction import Redaction
from runner.engines.trace import ARRAYS, NOT_OBSERVED, OBSERVED, Trace
from runner.engines.typed_json import Malformed, from_json, to_json


@dataclass(frozen=True)
class Hello:
    """The child runs."""

    pid: int
    protocol: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class StageStarted:
    """The child works on a stage now: ``load``, or one of the chain's."""

    stage: str
    cell_id: str | None = None
    """None: it is work for all cells."""


@dataclass(frozen=True)
class EngineLoaded:
    """The model is in memory, and what the engine says of itself."""

    load_s: float
    engine_version: str
    engine_build: str
    compute_dtype: str
    kv_dtype: str
    stages: dict[str, str]
    """How each stage is seen."""
    device_uuids: list[str] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)
    """Options that the probes needed and the user did not ask for."""
    environment: list[tuple[str, str, str]] = field(default_factory=list)
    """What the engine runs on: name, version, kind."""


@dataclass(frozen=True)
class TraceSeen:
    """A probe has ended."""

    cell_id: str
    trace: Trace


@dataclass(frozen=True)
class CellDone:
    """All cases of a cell were asked."""

    cell_id: str


@dataclass(frozen=True)
class Failed:
    """The child ends without having served all cells."""

    kind: Literal["error", "oom"]
    error: str


@dataclass(frozen=True)
class Done:
    """The child ends, and has served all cells."""


Event = Hello | StageStarted | EngineLoaded | TraceSeen | CellDone | Failed | Done

_EVENTS: dict[str, type[Any]] = {
    "hello": Hello,
    "stage": StageStarted,
    "loaded": EngineLoaded,
    "trace": TraceSeen,
    "cell_done": CellDone,
    "failed": Failed,
    "done": Done,
}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


class EventWriter:
    """Writes events as frames; a server's API key is taken out of every text in them."""

    def __init__(self, stream: BinaryIO, secret: str | None = None) -> None:
        self._stream, self._redaction = stream, Redaction(secret)

    def write(self, event: Event) -> None:
        """Write one event."""
        header = {"event": _NAMES[type(event)], **to_json(event)}
        if self._redaction:
            header = self._redaction.value(header)
        arrays = event.trace.arrays if isinstance(event, TraceSeen) else {}
        write_frame(self._stream, header, arrays)


def event_of(header: dict[str, Any], arrays: Arrays) -> Event:
    """Return the event of one frame.

    Raises:
        ProtocolError: it is unknown, of another version of this protocol, or malformed.
    """
    name = header.get("event")
    if not isinstance(name, str) or name not in _EVENTS:
        raise ProtocolError(f"no event is called {name!r}"[:200])
    if name == "hello" and header.get("protocol") != PROTOCOL_VERSION:
        raise ProtocolError(f"protocol {header.get('protocol')!r}, not {PROTOCOL_VERSION}"[:200])
    try:
        body = {key: value for key, value in header.items() if key != "event"}
        event: Event = from_json(_EVENTS[name], body)
    except Malformed as error:
        raise ProtocolError(str(error)) from error
    if isinstance(event, EngineLoaded):
        for how in event.stages.values():
            if how not in (*OBSERVED, *NOT_OBSERVED):
                raise ProtocolError(f"EngineLoaded.stages: no stage is seen {how!r}"[:200])
    if isinstance(event, TraceSeen):
        if event.trace.stage not in STAGES:
            raise ProtocolError(f"TraceSeen.trace.stage: unknown stage {event.trace.stage!r}"[:200])
        return replace(event, trace=replace(event.trace, arrays=_checked(arrays)))
    if arrays:
        raise ProtocolError(f"a {name} event carries no arrays")
    return event


def _checked(arrays: Arrays) -> Arrays:
    for name, array in arrays.items():
        dimensions, integers = ARRAYS.get(name, (None, False))
        if array.ndim != dimensions or (array.dtype.kind == "i") != integers:
            raise ProtocolError(f"array {name!r} of {array.dtype} {array.shape} is not expected")
    return arrays
