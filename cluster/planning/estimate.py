"""About how long a cell will take: each token costs one read of the weights.

The numbers are for planning and balancing only; no verdict and no fixed limit depends on them.
"""

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
