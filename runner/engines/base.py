"""What goes into an engine adapter and comes out of it: loads, requests, replies, logits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from runner.engines.engine import Engine

#: The chain's stages, in order; ``suites`` has them too, but is not there where the child runs.
STAGES = (
    "instrument",
    "config",
    "weights",
    "template",
    "tokenize",
    "logits",
    "state",
    "sampling",
    "stop",
    "detokenize",
    "parse",
    "chain",
)
Logits = npt.NDArray[np.float32]
Message = dict[str, Any]


class Unseen(Exception):
    """What is asked for cannot be seen here: the engine hides it, or has no such thing."""

    def __init__(self, how: Literal["hidden", "absent"], why: str = "") -> None:
        super().__init__(why)
        self.how = how


class EngineGone(Exception):
    """The engine no longer answers: its last answer says nothing, and asking on is useless."""


@dataclass(frozen=True)
class Load:
    """What to load and how."""

    path: str
    """The artifact: a folder or a GGUF file."""
    backend: str
    pass_: str
    weights_type: str
    engine: Engine
    api_key: str | None = field(default=None, repr=False)
    """Secret; only ever sent to the engine's ``base_url``."""
    deadline_s: float = 180.0
    """Seconds until the whole child ends; one request of a server gets a part of it."""


@dataclass(frozen=True)
class Loaded:
    """What an engine says of itself once the model is in memory."""

    engine_version: str
    engine_build: str
    compute_dtype: str
    kv_dtype: str
    device_uuids: list[str]
    overrides: dict[str, Any]
    """Options that the probes needed and the user did not ask for."""
    device: dict[str, str] = field(default_factory=dict)
    """What computes: its name and the runtime beneath, as the engine itself states them."""


@dataclass(frozen=True)
class Request:
    """One call on the engine's chat path; greedy always."""

    messages: Sequence[Message]
    tools: Sequence[Message] | None = None
    template_options: dict[str, Any] = field(default_factory=dict)
    max_tokens: int = 64
    stop: Sequence[str] = ()
    script: Sequence[int] | None = None
    """Ids forced one after the other through the engine's own generation loop."""
    stream: bool = False
    prompt_text: str | None = None
    """Put in the place of what the template made."""
    prompt_ids: Sequence[int] | None = None
    """Put in the place of what the tokenizer made."""


@dataclass(frozen=True)
class Reply:
    """What came back from one call."""

    prompt_ids: list[int] | None
    """None where they are hidden."""
    output_ids: list[int] | None
    """Ids that the generation loop produced, an EOS included; None where they are hidden."""
    text: str
    """What the user receives as text: content as the engine hands it out."""
    message: Message | None
    """The assistant message; None where the engine has no parser and returns text."""
    finish_reason: str | None
    arrivals_s: list[float]
    """Seconds from the call to each streamed piece; empty when not streamed."""
    total_s: float
    prompt_count: int | None = None
    """Tokens of the prompt as the engine counts them; None where it does not."""
    output_count: int | None = None

    @property
    def shown_ids(self) -> list[int]:
        """The ids that came out; Unseen where they are hidden."""
        if self.output_ids is None:
            raise Unseen("hidden", "the ids of an answer are not shown")
        return self.output_ids
