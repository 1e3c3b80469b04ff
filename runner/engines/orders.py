"""The order to an engine child, as it travels: what to load, and what to ask of it.

The supervisor builds it in ``runner.child_orders``; the child reads it with ``read_order``.
"""

from dataclasses import dataclass, field
from typing import IO, Any

from runner.engines.base import Load, Message
from runner.engines.protocol import ProtocolError, read_frame, write_frame
from runner.engines.typed_json import Malformed, from_json, to_json

#: A prompt's ids, and the output's ids that follow it.
ForcedIds = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Script:
    """An output that is forced token by token through the engine's own generation loop."""

    text: str
    eos: int | None = None
    """Then this member (0-based) of the engine's EOS set."""
    after: str = ""
    """Then this text."""


@dataclass(frozen=True)
class Scenario:
    """What else happens around the request of a ``state`` case."""

    kind: str
    """batched, chunked, prefix, reused or concurrent."""
    beside: list[list[Message]] = field(default_factory=list)
    """Conversations of the others."""
    sizes: list[int] = field(default_factory=list)
    """Sequences in a batch, tokens in a chunk, or slots."""


@dataclass(frozen=True)
class Truth:
    """The truth's input to a case's stage, and of a chain its answer; None where it is unknown."""

    prompt_text: str | None = None
    prompt_ids: list[int] | None = None
    output_ids: list[int] | None = None
    script_ids: list[int] | None = None
    """The script as token ids."""
    top_ids_prefill: list[list[int]] | None = None
    """Per position of the whole sequence: the reference's most probable ids."""
    positions: list[int] | None = None
    """The positions that ``top_ids_prefill`` belongs to; None for all."""
    top_ids_decode: list[list[int]] | None = None
    """The same at the output's positions only."""
    beside_ids: list[ForcedIds] | None = None
    """The conversations of a scenario, each with its answer."""
    bias_ids: dict[str, int] | None = None
    """Text of a biased token → its id."""
    text: str | None = None
    message: Message | None = None
    finish_reason: str | None = None

    @property
    def rendered(self) -> str:
        """The prompt's text.

        Raises:
            ValueError: it is unknown.
        """
        if self.prompt_text is None:
            raise ValueError("the truth's rendered prompt is missing")
        return self.prompt_text

    @property
    def prompt(self) -> list[int]:
        """The prompt's ids.

        Raises:
            ValueError: they are unknown.
        """
        if self.prompt_ids is None:
            raise ValueError("the truth's token ids of the prompt are missing")
        return self.prompt_ids

    @property
    def output(self) -> list[int]:
        """The output's ids; none where only a prompt is forced."""
        return self.output_ids or []

    @property
    def beside(self) -> list[ForcedIds]:
        """The conversations of a scenario with their answers; none where it has none."""
        return self.beside_ids or []


@dataclass(frozen=True)
class Infection:
    """What of a candidate is put into the reference's chain; nothing where its files are."""

    probe: str
    """``infect/…``, by which the trace is known."""
    prompt_text: str | None = None
    prompt_ids: list[int] | None = None
    script: list[int] | None = None
    """Output ids to force."""

    @property
    def is_portable(self) -> bool:
        """Whether there is anything to put in."""
        return bool(self.prompt_text or self.prompt_ids or self.script)


@dataclass(frozen=True)
class CaseInput:
    """One case as the child asks it: its question and the truth's input to its stage."""

    id: str
    stage: str
    max_tokens: int
    truth: Truth = Truth()
    messages: list[Message] | None = None
    tools: list[Message] | None = None
    template_options: dict[str, Any] = field(default_factory=dict)
    text: str | None = None
    script: Script | None = None
    stop: list[str] = field(default_factory=list)
    asked: dict[str, float] = field(default_factory=dict)
    """Sampling parameters that are asked for, by name."""
    bias: dict[str, float] = field(default_factory=dict)
    """Text of one token → what is added to its logit."""
    measure: str | None = None
    """How a sampling case is measured: draws, greedy or seed."""
    draws: int = 0
    """Draws of the first token (measure: draws)."""
    scenario: Scenario | None = None
    infections: list[Infection] = field(default_factory=list)

    @property
    def around(self) -> Scenario:
        """The scenario of a ``state`` case.

        Raises:
            ValueError: it has none.
        """
        if self.scenario is None:
            raise ValueError(f"the state case {self.id} has no scenario")
        return self.scenario


@dataclass(frozen=True)
class CellInput:
    """The cases of one cell."""

    cell_id: str
    cases: list[CaseInput]
    stages: list[str] = field(default_factory=list)
    """Stages without cases of their own that are probed too: instrument and config."""
    options: dict[str, Any] = field(default_factory=dict)
    """Benign options that the loaded engine takes on for this cell (``floor``)."""


@dataclass(frozen=True)
class ChildOrder:
    """Everything that one engine child is to do."""

    load: Load
    cells: list[CellInput]
    freeze: bool = False
    """Each stage takes what the engine itself made before it: its answers become the truth."""
    floor: bool = False
    """Each cell is one benign configuration of the loaded engine: only forced logits are asked."""
    infect: bool = False
    """Ask only the infections of each case."""


def write_order(stream: IO[bytes], order: ChildOrder) -> None:
    """Write an order as one frame."""
    write_frame(stream, {"order": to_json(order)})


def read_order(stream: IO[bytes]) -> ChildOrder | None:
    """Read one order; None where the stream is empty.

    Raises:
        ProtocolError: what came is no order.
    """
    frame = read_frame(stream)
    if frame is None:
        return None
    try:
        return from_json(ChildOrder, frame[0].get("order"))
    except Malformed as error:
        raise ProtocolError(str(error)) from error
