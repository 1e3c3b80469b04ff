"""Truth is found by the function; runs of earlier versions, which name none, by the weights."""

import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.handmade import FUNCTION, Bench

OTHER = "fn1:scaled"


@arranged
@pytest.mark.parametrize("functions", [(FUNCTION, OTHER), (OTHER, FUNCTION), (None, FUNCTION)])
def test_a_run_is_judged_by_its_own_function_whatever_else_has_these_weights(
    bench: Bench, functions: tuple[str | None, ...]
) -> Halves:
    bench.frozen_functions = functions
    found = yield
    assert found.verdict("logits") == "qualified"
    assert found.verdict("chain") == "qualified"


@arranged
@pytest.mark.parametrize("functions", [(OTHER,), (None,)])
def test_equal_weights_alone_are_no_truth(
    bench: Bench, functions: tuple[str | None, ...]
) -> Halves:
    bench.frozen_functions = functions
    row = (yield).stage("logits")
    assert row["verdict"] == "inconclusive"
    assert row["reference_id"] is None
    assert row["floor_id"] is None


@arranged
@pytest.mark.parametrize("functions", [(None,), (FUNCTION,), (None, FUNCTION, OTHER)])
def test_an_earlier_run_is_judged_as_before(
    bench: Bench, functions: tuple[str | None, ...]
) -> Halves:
    bench.function, bench.frozen_functions = None, functions
    row = (yield).stage("logits")
    assert row["verdict"] == "qualified"
    assert row["reference_id"] == "r1:frozen"
    assert row["floor_id"] == "f1:floor"


@arranged
def test_an_earlier_run_has_no_truth_where_several_functions_have_its_weights(
    bench: Bench,
) -> Halves:
    bench.function, bench.frozen_functions = None, (FUNCTION, OTHER)
    row = (yield).stage("logits")
    assert row["verdict"] == "inconclusive"
    assert row["reference_id"] is None
