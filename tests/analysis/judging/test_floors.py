"""Floors: what benign configurations of a trusted engine measure."""

import math
from collections.abc import Callable

import pytest

from analysis.judging.floors import floor_rows
from suites.errors import UserError
from tests.analysis.handmade import NOW, RUN, Bench, Cell


def test_floor_rows_measure_each_configuration_like_a_verdict(
    bench: Bench, judged: Callable[[Bench], object]
) -> None:
    bench.cells = [Cell(f"c1:{i}", engine=f"benign-{i}") for i in range(3)]
    for i, cell in enumerate(bench.cells):
        cell.only.logits(0.3 * i)
    bench.write()
    rows = floor_rows(bench.results, RUN)
    assert [r.probe for r in rows] == ["decode", "prefill"] * 3
    assert len({r.floor_id for r in rows}) == 1
    rows = rows[::2]
    assert rows[0].floor_id.startswith("f1:")
    assert rows[0].mean_kl < 1e-12 < rows[1].mean_kl < rows[2].mean_kl
    assert rows[2].flips > 0
    assert rows[2].max_flip_margin > 0
    assert rows[1].positions == 72
    assert all(math.isfinite(r.max_kl) and r.created > NOW for r in rows)


def test_a_run_without_numbers_makes_no_floor(bench: Bench) -> None:
    bench.reference_cases = ()
    bench.write()
    with pytest.raises(UserError, match="freeze a reference"):
        floor_rows(bench.results, RUN)
