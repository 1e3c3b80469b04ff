"""About how long a cell will take: each token costs one read of the weights.

The numbers are for planning and balancing only; no verdict and no fixed limit depends on them.
"""

from collections.abc import Iterable

from suites.stages import Backend, Pass
from suites.suite import Case, Suite

#: Bytes of weights read per second: from disk while loading, then by the CPU or an accelerator.
_DISK, _CPU, _ACCELERATOR = 5e8, 1e10, 1e12
_START_S = 4.0
_TOKEN_S = 0.0004
_TEXT_S = 0.005
#: Tokens that a case of a stage computes; other stages handle text only.
_TOKENS = {"logits": 160, "stop": 64, "detokenize": 64, "parse": 64, "chain": 128}
#: Tokens of one sequence of a state or sampling case; seconds of a draw besides its one token.
_SEQUENCE = 40
_DRAW_S = 0.0001
#: Operations per second of a prompt at fp32, and bytes per second that are dequantised.
_CPU_OPERATIONS, _ACCELERATOR_OPERATIONS, _DEQUANTISED = 4e10, 2e13, 2e8
#: Answers that share a step; tokens that a template adds; characters of a request in a token.
_BATCH, _TEMPLATE_TOKENS, _CHARACTERS = 8, 40, 4


def child_seconds(size: int) -> float:
    """Return seconds to start a child and load ``size`` bytes."""
    return _START_S + size / _DISK


def suite_seconds(suite: Suite, size: int, backend: Backend, pass_: Pass) -> float:
    """Return seconds to run a suite on weights of ``size`` bytes, without loading them."""
    rate = _CPU if backend == "cpu" else _ACCELERATOR
    per_token = _TOKEN_S + size / rate
    weights_read_s = 2 * size / _DISK
    slower = 2.0 if pass_ == "structure" else 1.0
    return weights_read_s + slower * sum(
        _case_seconds(c, per_token, size / rate) for c in suite.cases
    )


def freeze_seconds(
    cases: Iterable[Case], size: int, backend: Backend, *, dequantise: bool
) -> float:
    """Return about how many seconds the reference engine takes to freeze cases.

    Answers are made in batches: a step reads the weights once for all of them. A prompt costs two
    operations for each weight and token.
    """
    cpu = backend == "cpu"
    read_s = size / (_CPU if cpu else _ACCELERATOR)
    token_s = (size / 2) / (_CPU_OPERATIONS if cpu else _ACCELERATOR_OPERATIONS)
    steps = forced = 0
    for case in cases:
        beside = len(case.scenario.beside) if case.scenario else 0
        if case.stage in ("logits", "state", "chain"):
            steps += (1 + beside) * case.max_tokens
        if case.stage in ("logits", "state", "sampling"):
            forced += _prompt_tokens(case) + case.max_tokens
    load = child_seconds(size) + (size / _DEQUANTISED if dequantise else 0.0)
    return load + steps * (read_s / _BATCH + _TOKEN_S) + forced * token_s


def _prompt_tokens(case: Case) -> int:
    asked = case.model_dump_json(include={"messages", "tools", "text"})
    return _TEMPLATE_TOKENS + len(asked) // _CHARACTERS


def _case_seconds(case: Case, per_token: float, read_s: float) -> float:
    if case.stage == "sampling" and case.measure == "draws":
        return _TEXT_S + _SEQUENCE * per_token + case.draws * (_DRAW_S + read_s)
    sequences = _sequences(case)
    tokens = sequences * _SEQUENCE if sequences else _TOKENS.get(case.stage, 0)
    return _TEXT_S + tokens * per_token


def _sequences(case: Case) -> int:
    """Return how many sequences a case of ``state`` or ``sampling`` computes in all."""
    scenario = case.scenario
    if case.stage == "sampling":
        return 4 if case.measure == "seed" else 2
    if case.stage != "state" or scenario is None:
        return 0
    others = len(scenario.beside)
    forms = {
        "batched": sum(size * size for size in scenario.sizes),
        "chunked": len(scenario.sizes),
        "prefix": others + 1,
        "reused": 2 * others,
        "concurrent": 1 + len(scenario.sizes) * (others + 1),
    }
    return 1 + forms[scenario.kind]
