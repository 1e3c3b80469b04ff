"""Fixtures: a clean run in the making, and its judged catalog."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from analysis.judging.catalog import Catalog, open_catalog
from runner.stored.store import Store
from tests.analysis.handmade import RUN, Bench

Key = TypeVar("Key")


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


Together = Callable[[Callable[[Bench, Key], object], Iterable[Key]], dict[Key, Judged]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together[Any]]:
    """Judge a table of benches in one catalog, each as a run of its own.

    A catalog costs about the same for one run and for twenty. ``arrange`` is called with a clean
    bench for each key of the table.
    """
    with ExitStack() as stack:

        def judge(
            arrange: Callable[[Bench, Key], object], table: Iterable[Key]
        ) -> dict[Key, Judged]:
            root = tmp_path_factory.mktemp("together")
            runs: dict[Key, str] = {}
            for number, key in enumerate(table):
                run_id = f"{RUN}-{number}"
                bench = Bench(root, run_id=run_id, references=f"references-{number}")
                arrange(bench, key)
                bench.write()
                runs[key] = run_id
            ids = list(runs.values())
            catalog = stack.enter_context(open_catalog(Store(str(root)), ids, judging=ids))
            return {key: Judged(catalog, run_id) for key, run_id in runs.items()}

        yield judge


@pytest.fixture(scope="module")
def arrangements(request: pytest.FixtureRequest, together: Together[str]) -> object:
    """All tests of this file that are written in two halves, arranged and judged."""
    from tests.analysis.arranged import Arrangements

    return Arrangements(request, together)
