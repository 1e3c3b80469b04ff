"""The chain: all stages between the client's message and the answer, in order."""

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

#: The single stages in chain order. ``chain`` is all of them: messages in, message out.
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

#: Stages without cases: their facts come from the model's files and from the engine.
CASELESS: frozenset[Stage] = frozenset({"instrument", "config", "weights"})

#: structure: compared at fp32. deployed: compared as served. timed: only timed.
Pass = Literal["structure", "deployed", "timed"]
Backend = Literal["cuda", "rocm", "metal", "vulkan", "xpu", "cpu"]
Serving = Literal["in_process", "managed", "external"]
