"""What a cell is thought to take follows from what it asks."""

from pathlib import Path

import pytest

from cluster.planning.estimate import suite_seconds
from suites.loading import load_suite
from suites.suite import Case, Suite

TINY, LARGE = 4_000_000, 16_000_000_000


def _seconds(suite: Suite, case: Case) -> float:
    """Return seconds of one case, on a large model that is already loaded."""
    one = suite.model_copy(update={"cases": (case,)})
    none = suite.model_copy(update={"cases": ()})
    return _estimate(one) - _estimate(none)


def _estimate(suite: Suite) -> float:
    return suite_seconds(suite, LARGE, "cuda", "deployed")


@pytest.mark.parametrize("name", ["state", "sampling", "numerics"])
def test_a_shipped_suite_takes_a_minute_on_the_shipped_model(name: str) -> None:
    assert 1 < suite_seconds(load_suite(name, Path()), TINY, "cpu", "structure") < 60


def test_more_draws_take_longer() -> None:
    suite = load_suite("sampling", Path())
    (case,) = [c for c in suite.cases if c.id == "sampling/plain"]
    fewer = case.model_copy(update={"draws": case.draws // 4})
    assert _seconds(suite, case) > 2 * _seconds(suite, fewer)


def test_more_rows_and_batches_take_longer() -> None:
    suite = load_suite("state", Path())
    (case,) = [c for c in suite.cases if c.id == "state/batched"]
    assert case.scenario is not None
    fewer = case.scenario.model_copy(update={"sizes": case.scenario.sizes[:1]})
    alone = case.model_copy(update={"scenario": fewer})
    assert _seconds(suite, case) > 10 * _seconds(suite, alone)
