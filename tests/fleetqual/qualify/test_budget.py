"""A budget keeps the first ways to serve, always at least one, and never more than fits."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetqual.qualify.budget import fit, seconds_of
from fleetqual.qualify.serving import Served
from suites.errors import UserError

WAYS = (
    Served("llama_cpp", "in_process"),
    Served("llama_cpp", "managed"),
    Served("transformers", "in_process"),
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), (" 2 m", 120)]
)
def test_a_time_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5m", "five", "5d", "1e3", "5m30s"])
def test_what_is_no_time_is_refused_with_what_is_known(text: str) -> None:
    with pytest.raises(UserError, match="not a time above zero") as refused:
        seconds_of(text)
    assert refused.value.known == "90s, 5m, 1.5h"


@given(st.lists(st.floats(1, 1000), min_size=3, max_size=3), st.floats(0, 4000))
def test_what_is_kept_is_the_longest_beginning_that_fits(costs: list[float], budget: float) -> None:
    def estimate(ways: Sequence[Served]) -> float:
        return sum(costs[: len(ways)])

    fitted = fit(WAYS, budget, estimate)
    assert fitted.kept + fitted.left_out == WAYS
    assert len(fitted.kept) >= 1
    assert fitted.seconds == estimate(fitted.kept)
    if len(fitted.kept) > 1:
        assert fitted.seconds <= budget
    if fitted.left_out:
        assert estimate(WAYS[: len(fitted.kept) + 1]) > budget
