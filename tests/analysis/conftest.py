"""Fixtures: a clean run in the making, and its judged catalog."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from analysis.judging.catalog import Catalog, open_catalog
from analysis.showing.summary import summarise
from runner.stored.store import Store
from tests.analysis.handmade import RUN, Bench


class Judged:
    """What a run's verdicts say, by stage."""

    def __init__(self, catalog: Catalog, run_id: str = RUN) -> None:
        self.catalog = catalog
        self.run_id = run_id

    def rows(self, relation: str, where: str = "true") -> list[dict[str, Any]]:
        """Return this run's rows of a relation."""
        query = f"SELECT * FROM {relation} WHERE run_id = ? AND ({where})"
        return self.catalog.rows(query, [self.run_id])

    def stage(self, stage: str, group: str = "*", cell: str = "c1:0001") -> dict[str, Any]:
        """Return the one verdict on a stage."""
        where = f"stage = '{stage}' AND case_group = '{group}' AND cell_id = '{cell}'"
        (row,) = self.rows("verdicts", where)
        return row

    def verdict(self, stage: str, cell: str = "c1:0001") -> str:
        return str(self.stage(stage, cell=cell)["verdict"])

    def cell(self, cell: str = "c1:0001") -> dict[str, Any]:
        """Return the one qualification of a cell."""
        (row,) = self.rows("qualification", f"cell_id = '{cell}'")
        return row

    @property
    def exit_code(self) -> int:
        """What ``fleetqual check`` exits with."""
        return summarise(self.catalog, self.run_id).exit_code


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "results")


@pytest.fixture
def judged() -> Iterator[Callable[[Bench], Judged]]:
    """Write a bench and judge it as far as a test asks; the catalogs are closed afterwards."""
    with ExitStack() as stack:

        def judge(bench: Bench) -> Judged:
            store = Store(bench.write())
            return Judged(stack.enter_context(open_catalog(store, [RUN], judging=[RUN])))

        yield judge


@pytest.fixture(scope="module")
def arrangements(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[object]:
    """All tests of this file that are written in two halves, arranged and judged."""
    from tests.analysis.arranged import Arrangements

    with Arrangements(request, tmp_path_factory.mktemp("arranged")) as arrangements:
        yield arrangements
