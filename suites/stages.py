"""The chain: every stage between the client's message and the answer, in order."""

from typing import Literal

Stage = Literal[
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
]

#: Isolate stages in chain order. ``chain`` is the whole of it, messages in and message out.
STAGES: tuple[Stage, ...] = (
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
)
CHAIN: Stage = "chain"

#: Stages whose facts come from the model's files and the engine's self-description, not from cases.
CASELESS: frozenset[Stage] = frozenset({"instrument", "config", "weights"})

#: How the engine computes is compared at fp32, as served, or only timed.
Pass = Literal["structure", "deployed", "timed"]
Backend = Literal["cuda", "rocm", "metal", "vulkan", "xpu", "cpu"]
Serving = Literal["in_process", "managed", "external"]
