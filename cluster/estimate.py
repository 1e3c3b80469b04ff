"""How long a cell will take, roughly: a token costs one pass over the weights.

The numbers are for planning and balancing only; nothing is judged or cut off by them.
"""

from suites.stages import Backend, Pass
from suites.suite import Case, Suite

#: Bytes per second that weights are read at: from disk while loading, by the CPU or an accelerator.
_DISK, _CPU, _ACCELERATOR = 5e8, 1e10, 1e12
_START_S = 4.0
_TOKEN_S = 0.0004
_TEXT_S = 0.005
#: Tokens that a case of a stage computes; other stages handle text only.
_TOKENS = {"logits": 160, "stop": 64, "detokenize": 64, "parse": 64, "chain": 128}


def child_seconds(size: int) -> float:
    """Return seconds to start a child and load ``size`` bytes."""
    return _START_S + size / _DISK


def suite_seconds(suite: Suite, size: int, backend: Backend, pass_: Pass) -> float:
    """Return seconds to run a suite on weights of ``size`` bytes, without loading them."""
    rate = _CPU if backend == "cpu" else _ACCELERATOR
    per_token = _TOKEN_S + size / rate
    weights_read_s = 2 * size / _DISK
    slower = 2.0 if pass_ == "structure" else 1.0
    return weights_read_s + slower * sum(_case_seconds(case, per_token) for case in suite.cases)


def _case_seconds(case: Case, per_token: float) -> float:
    return _TEXT_S + _TOKENS.get(case.stage, 0) * per_token
