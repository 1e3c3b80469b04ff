"""What an engine can be asked: one small protocol for each ability, and an adapter made of them.

An adapter is a composition. The parts of one engine share one loaded engine object. An ability that
the engine lacks, as it is served, is None. Abilities raise what the engine raises, and the probe
records it; they raise ``Unseen`` where the engine hides this one answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from runner.engines.base import Loaded, Logits, Reply, Request, Unseen
from runner.engines.protocol import Arrays
from runner.engines.shown import Shown

TopIds = npt.NDArray[np.int32]
Forced = tuple[Sequence[int], Sequence[int]]
"""A prompt's ids, and the ids of the output that is forced after it."""
Ask = Callable[[Request], Reply]
Generate = Callable[[Sequence[int], dict[str, Any], int, int | None], list[int]]
_T = TypeVar("_T")


class Template(Protocol):
    """Messages to prompt text."""

    def render(self, request: Request) -> str:
        """Return the prompt text that the chat path builds."""


class Tokenizer(Protocol):
    """Prompt text to ids."""

    def encode_chat(self, prompt_text: str) -> list[int]:
        """Return the ids that the chat path makes of this rendered prompt."""

    def encode_text(self, text: str) -> list[int]:
        """Return the ids that the completion path makes of raw text, with BOS if it adds one."""


class Vocabulary(Protocol):
    """What single ids mean."""

    def ids_of(self, text: str) -> list[int]:
        """Return the ids of a piece of output: specials recognised, nothing added."""

    def text_of(self, ids: Sequence[int]) -> str:
        """Return the text of ids, specials shown."""

    def eos_ids(self) -> list[int]:
        """Return the ids at which generation ends."""


class Distribution(Protocol):
    """Logits of forced ids, over the whole vocabulary (V)."""

    def prefill(self, ids: Sequence[int], *, cold: bool = False) -> Logits:
        """Return logits [len(ids), V] of one forward pass; ``cold`` without any cache."""

    def decode(self, prompt: Sequence[int], output: Sequence[int]) -> Logits:
        """Return logits [len(output), V] at the positions that predict each output id.

        The prompt is evaluated at once, then the output ids one at a time on the KV cache.
        """


@dataclass(frozen=True)
class Summary:
    """Numbers of forced ids at the positions that are kept; no row [V] is among them."""

    arrays: Arrays
    """As ``probes.distribution.distribution_payload`` returns them."""
    nonfinite: int
    """NaN or infinite logits, those of left-out positions included."""
    positions: list[int] | None = None
    """The positions that are kept; None for all."""


@dataclass(frozen=True)
class Answer:
    """A greedy answer, with the numbers at the positions that predict its ids."""

    output_ids: list[int]
    """EOS included."""
    numbers: Summary


class Summaries(Protocol):
    """Numbers for a reference or a floor, computed in the engine's own arrays.

    ``top_ids`` [n, k] are the ids to gather at; None takes the most probable ones, as a reference
    does.
    """

    def prefill(
        self, ids: Sequence[int], top_ids: TopIds | None = None, at: Sequence[int] | None = None
    ) -> Summary:
        """Return the numbers of one pass that predict the second id to the last.

        ``at`` names the positions that ``top_ids`` belongs to. Where neither is given, a long
        sequence keeps only its most informative positions.
        """

    def decode(
        self, sequences: Sequence[Forced], top_ids: Sequence[TopIds | None]
    ) -> list[Summary]:
        """Return the numbers that predict each sequence's output ids, fed one at a time."""

    def answers(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[Answer]:
        """Generate greedy answers in one batch."""


class Sampler(Protocol):
    """The engine's own sampler.

    ``asked`` holds only what is asked for (``logit_bias`` by id); nothing may be passed on that the
    engine would not apply by itself.
    """

    @property
    def parameters(self) -> Sequence[str]:
        """Return the sampling parameters that can be asked for."""

    def draw(self, prompt: Sequence[int], asked: dict[str, Any], n: int, seed: int) -> list[int]:
        """Draw the first token of the answer ``n`` times, independently."""

    def generate(
        self, prompt: Sequence[int], asked: dict[str, Any], max_tokens: int, seed: int | None
    ) -> list[int]:
        """Return the ids of one answer, an EOS included."""


class Batched(Protocol):
    """Several sequences in one batch of the engine."""

    def __call__(self, sequences: Sequence[Forced], /) -> list[Logits]:
        """Evaluate sequences together.

        All prompts go in at once; then the output ids one at a time, a step for all sequences that
        still have some. Returns, for each sequence, logits [len(prompt) + len(output) - 1, V] at
        the positions that predict its second id to its last.
        """


class WarmPrefix(Protocol):
    """A prompt after others, with a prefix cache."""

    def __call__(
        self, earlier: Sequence[Sequence[int]], ids: Sequence[int], /
    ) -> tuple[int, Logits]:
        """Serve ``earlier`` prompts one after the other, then ``ids``, reusing a cached prefix.

        Returns the number of positions taken from the cache, and logits [len(ids) - that, V] at the
        others.
        """


class ReusedSlot(Protocol):
    """A prompt in the memory that an earlier request left."""

    def __call__(self, earlier: Sequence[int], ids: Sequence[int], /) -> Logits:
        """Return logits [len(ids), V] in the slot of a request that was served to its end."""


class Concurrent(Protocol):
    """Several answers at a time, by ids."""

    def __call__(
        self, prompts: Sequence[Sequence[int]], slots: int, max_tokens: int, /
    ) -> list[list[int]]:
        """Generate greedy answers to all prompts, up to ``slots`` at a time; EOS ids included.

        A finished request frees its slot for the next prompt, where the engine works like that.
        """


class Chats(Protocol):
    """Several chats at a time, where a server shows nothing but texts."""

    def __call__(self, ask: Ask, requests: Sequence[Request], slots: int, /) -> list[Reply]:
        """Send requests through ``ask``, up to ``slots`` at a time; replies come in their order."""


@dataclass(frozen=True)
class Chunked:
    """A prompt in the engine's own chunks."""

    prefill: Callable[[Sequence[int], int], Logits]
    """Logits [len(ids), V] of a prefill of ``ids`` in chunks of ``size`` ids."""
    size: Callable[[int | None], int | None] = lambda asked: asked
    """How many ids are in a chunk if so many are asked for; for None, how many the engine's own
    prefill puts there, and None if it never cuts."""


@dataclass(frozen=True)
class Scenarios:
    """The scenarios of the ``state`` stage that an engine can be put into; None: it cannot."""

    batched: Batched | None = None
    chunked: Chunked | None = None
    prefix: WarmPrefix | None = None
    reused: ReusedSlot | None = None
    concurrent: Concurrent | None = None
    chats: Chats | None = None


@dataclass(frozen=True)
class Adapter:
    """One loaded engine."""

    loaded: Loaded
    shown: Shown
    facts: Callable[[], dict[str, Any]]
    """What the engine loaded, by fact name; what it hides is left out."""
    chat: Ask
    """One request through the engine's real chat path."""
    template: Template | None = None
    tokenizer: Tokenizer | None = None
    vocabulary: Vocabulary | None = None
    distribution: Distribution | None = None
    sampler: Sampler | None = None
    scenarios: Scenarios = Scenarios()
    summaries: Summaries | None = None
    """Makes references and floors fast; without it they are made of ``chat`` and
    ``distribution``."""
    reconfigure: Callable[[dict[str, Any]], None] | None = None
    """Set benign options on the loaded model; KeyError for one that needs a new load."""

    def has(self, ability: str) -> bool:
        """Whether there is an ability or a scenario of this name."""
        holder = self if ability in ABILITIES else self.scenarios
        return getattr(holder, ability) is not None


#: What is said of an ability that is asked for and is not there.
ABILITIES = {
    "template": "the prompt text that its template makes",
    "tokenizer": "the ids that its tokenizer makes",
    "vocabulary": "the text of single ids",
    "distribution": "the distribution over its whole vocabulary",
    "sampler": "the ids that its sampler draws",
}


def template_of(adapter: Adapter) -> Template:
    """Return the engine's template; Unseen where it is not shown, as with all of these."""
    return shown_ability(adapter.template, "template")


def tokenizer_of(adapter: Adapter) -> Tokenizer:
    """Return the engine's tokenizer."""
    return shown_ability(adapter.tokenizer, "tokenizer")


def vocabulary_of(adapter: Adapter) -> Vocabulary:
    """Return the engine's vocabulary."""
    return shown_ability(adapter.vocabulary, "vocabulary")


def distribution_of(adapter: Adapter) -> Distribution:
    """Return the engine's distributions."""
    return shown_ability(adapter.distribution, "distribution")


def sampler_of(adapter: Adapter) -> Sampler:
    """Return the engine's sampler."""
    return shown_ability(adapter.sampler, "sampler")


def shown_ability(ability: _T | None, name: str) -> _T:
    """Return an ability, or a scenario, of this name; Unseen where it is not there."""
    if ability is None:
        raise Unseen(
            "hidden", f"this engine does not show {ABILITIES.get(name, f'the scenario {name}')}"
        )
    return ability
