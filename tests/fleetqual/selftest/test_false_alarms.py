"""Clean cells: what counts as an alarm, and how far the rate may lie."""

from collections.abc import Callable

import pytest

from fleetqual.selftest.false_alarms import Alarms, alarms_of
from tests.analysis.conftest import Judged
from tests.analysis.handmade import RUN, Bench
from tests.analysis.handmade_truth import LOGITS, aligned_answer

Judge = Callable[[Bench], Judged]


def counted(bench: Bench, judged: Judge) -> Alarms:
    judged(bench)
    return alarms_of(bench.results, [RUN], seconds=1.0)


def test_a_qualified_cell_is_no_alarm_and_its_bound_is_exact(bench: Bench, judged: Judge) -> None:
    found = counted(bench, judged)
    assert (found.cells, found.alarmed, found.unjudged, found.exit_code) == (1, [], [], 0)
    assert found.upper == pytest.approx(0.95)


def test_a_divergent_cell_is_an_alarm(bench: Bench, judged: Judge) -> None:
    bench.attempt.logits(0.5)
    found = counted(bench, judged)
    assert (found.cells, len(found.alarmed), found.exit_code) == (1, 1, 1)
    assert found.alarmed[0]["culprit"] == "logits"


def test_a_broken_instrument_is_an_alarm_although_its_cell_is_inconclusive(
    bench: Bench, judged: Judge
) -> None:
    for case_id in LOGITS[:2]:
        bench.attempt.change("instrument", case_id, "aligned", **aligned_answer(case_id, 1))
    found = counted(bench, judged)
    assert (found.cells, len(found.alarmed), found.unjudged) == (1, 1, [])


def test_a_cell_without_a_verdict_counts_on_neither_side(bench: Bench, judged: Judge) -> None:
    bench.attempt.fail("template", "template/plain", "it raised")
    found = counted(bench, judged)
    assert (found.cells, len(found.unjudged), found.exit_code) == (0, 1, 3)
    assert found.upper is None
