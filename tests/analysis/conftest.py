"""Fixtures: a clean run in the making, and its judged catalog."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from analysis.judging.catalog import Catalog
from analysis.judging.judge import open_judged
from runner.stored.store import Store
from tests.analysis.handmade import RUN, Bench


class Judged:
    """What a run's verdicts say, by stage."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def stage(self, stage: str, group: str = "*", cell: str = "c1:0001") -> dict[str, Any]:
        (row,) = self.catalog.rows(
            "SELECT * FROM verdicts WHERE stage = ? AND case_group = ? AND cell_id = ?",
            [stage, group, cell],
        )
        return row

    def verdict(self, stage: str, cell: str = "c1:0001") -> str:
        return str(self.stage(stage, cell=cell)["verdict"])

    def cell(self, cell: str = "c1:0001") -> dict[str, Any]:
        (row,) = self.catalog.rows("SELECT * FROM qualification WHERE cell_id = ?", [cell])
        return row


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "results")


@pytest.fixture
def judged() -> Iterator[Callable[[Bench], Judged]]:
    """Write a bench and judge it; the catalogs are closed afterwards."""
    with ExitStack() as stack:

        def judge(bench: Bench) -> Judged:
            bench.write()
            return Judged(stack.enter_context(open_judged(Store(bench.results), RUN)))

        yield judge
