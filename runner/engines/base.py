"""What every engine adapter offers to the stage probes, and declares about itself."""

from abc import ABC, abstractmethod
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


def all_stages(how: str, **others: str) -> dict[str, str]:
    """Return how each stage is seen: all in one way, but for those that are named."""
    return {**dict.fromkeys(STAGES, how), **others}


class Unseen(Exception):
    """What is asked for cannot be seen here: the engine hides it, or has no such thing."""

    def __init__(self, how: Literal["hidden", "absent"], why: str = "") -> None:
        super().__init__(why)
        self.how = how


class EngineGone(Exception):
    """The engine no longer answers: its last answer says nothing, and asking on is useless."""


@dataclass(frozen=True)
class Shown:
    """What one way of asking an engine shows of it."""

    stages: dict[str, str]
    """Stage → path, endpoint, reenacted; or hidden, absent, not_probed."""
    calls: dict[str, str]
    """Stage that is shown → the call through which it is seen, for the documentation."""
    scenarios: tuple[str, ...] = ()
    """Kinds of ``state`` scenario that it can be put into."""
    samplers: tuple[str, ...] = ()
    """Sampling parameters that it can be asked for."""


@dataclass(frozen=True)
class Declaration:
    """What an engine can be asked in process, known without importing it."""

    engine: str
    module: str
    """Python module whose presence means that the engine is installed."""
    packages: tuple[str, ...]
    """Distributions that carry the version; the first that is installed counts."""
    formats: tuple[str, ...]
    """Artifact formats: hf, gguf."""
    backends: tuple[str, ...]
    servings: tuple[str, ...]
    structure_types: tuple[str, ...]
    """Weights types that it can compute at fp32."""
    shown: Shown
    """What it shows in process."""
    option_names: tuple[str, ...]
    """Engine options accepted in a matrix."""
    dialect: str | None = None
    """What its own server speaks, where it can be managed."""
    server_option_names: tuple[str, ...] | None = None
    """Options of its own server accepted in a matrix; the engine's where left out."""

    def options(self, serving: str) -> tuple[str, ...]:
        """Return the options that a matrix may give, by how the engine is served."""
        own = self.server_option_names if serving == "managed" else None
        return self.option_names if own is None else own


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


class Adapter(ABC):
    """One loaded engine. Methods raise what the engine raises: the probe records it."""

    loaded: Loaded
    shown: Shown

    @abstractmethod
    def __init__(self, load: Load) -> None: ...

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what the engine loaded, by fact name; what it hides is left out."""

    @abstractmethod
    def render(self, request: Request) -> str:
        """Return the prompt text that the chat path builds."""

    @abstractmethod
    def encode_chat(self, prompt_text: str) -> list[int]:
        """Return the ids that the chat path makes of this rendered prompt."""

    @abstractmethod
    def encode_text(self, text: str) -> list[int]:
        """Return the ids that the completion path makes of raw text, with BOS if it adds one."""

    @abstractmethod
    def encode_output(self, text: str) -> list[int]:
        """Return the ids of a piece of output: specials recognised, nothing added."""

    @abstractmethod
    def decode_ids(self, ids: Sequence[int]) -> str:
        """Return the text of ids, specials shown."""

    @abstractmethod
    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        """Return logits [len(ids), vocabulary] of one forward pass; ``cold`` without any cache."""

    @abstractmethod
    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        """Return logits [len(output), vocabulary] at the positions that predict each output id.

        The prompt is evaluated at once, then the output ids one at a time on the KV cache.
        """

    def batch(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Logits]:
        """Evaluate (prompt, output) sequences together, in one batch of the engine.

        All prompts go in at once; then the output ids one at a time, a step for all sequences that
        still have some. Returns, for each sequence, logits [len(prompt) + len(output) - 1, V] at
        the positions that predict its second id to its last.
        """
        raise NotImplementedError

    def chunked(self, ids: Sequence[int], size: int) -> Logits:
        """Return logits [len(ids), V] of a prefill in the engine's own chunks of ``size`` ids."""
        raise NotImplementedError

    def chunk_size(self, asked: int | None) -> int | None:
        """Return how many ids ``chunked`` puts into a chunk if ``asked`` are asked for.

        For None, how many ``prefill`` does; None if it never cuts.
        """
        return asked

    def warm(self, earlier: Sequence[Sequence[int]], ids: Sequence[int]) -> tuple[int, Logits]:
        """Serve ``earlier`` prompts one after the other, then ``ids``, reusing a cached prefix.

        Returns the number of positions taken from the cache, and logits [len(ids) - that, V] at the
        others.
        """
        raise NotImplementedError

    def reused(self, earlier: Sequence[int], ids: Sequence[int]) -> Logits:
        """Return logits [len(ids), V] in the slot of a request that was served to its end."""
        raise NotImplementedError

    def serve(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int
    ) -> list[list[int]]:
        """Generate greedy answers to all prompts, up to ``slots`` at a time; EOS ids included.

        A finished request frees its slot for the next prompt, where the engine works like that.
        """
        raise NotImplementedError

    def converse(self, requests: Sequence[Request], slots: int) -> list[Reply]:
        """Ask several chats, up to ``slots`` at a time; answers come in the order of requests."""
        raise NotImplementedError

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        """Draw the first token of the answer ``n`` times, independently, with the engine's sampler.

        ``asked`` holds only what is asked for (``logit_bias`` by id); nothing else may be passed
        on that the engine would not apply by itself.
        """
        raise NotImplementedError

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        """Return the ids of one answer drawn with the engine's sampler, an EOS included."""
        raise NotImplementedError

    @abstractmethod
    def chat(self, request: Request) -> Reply:
        """Run one request through the engine's real chat path."""

    @abstractmethod
    def eos_ids(self) -> list[int]:
        """Return the ids at which generation ends."""
