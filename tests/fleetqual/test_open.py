"""``fleetqual.open``: tables and views for notebooks, which can be read and not changed."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import fleetqual
from analysis.showing import sql as query
from fleetqual.results import Results
from suites.errors import UserError
from tests.analysis.handmade import Bench
from tests.paths import ROOT


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Bench(tmp_path_factory.mktemp("results")).write()


@pytest.fixture(scope="module")
def opened(root: str) -> Iterator[Results]:
    with fleetqual.open(root) as results:
        yield results


def test_a_query_returns_an_arrow_table(opened: Results) -> None:
    found = opened.sql("SELECT stage, verdict FROM verdicts WHERE stage = 'stop'")
    assert isinstance(found, pa.Table)
    assert found.to_pylist() == [{"stage": "stop", "verdict": "qualified"}]


def test_times_and_lists_keep_their_types(opened: Results) -> None:
    found = opened.sql("SELECT now() AS t, [1, 2] AS ids FROM range(0)")
    assert found.num_rows == 0
    assert [str(field.type) for field in found.schema] == [
        "timestamp[us, tz=UTC]",
        "list<l: int32>",
    ]


def test_the_same_tables_are_there_as_for_the_command(opened: Results) -> None:
    with query.locked_catalog(opened._name) as con:
        assert opened.tables == sorted(row[0] for row in con.execute("SHOW TABLES").fetchall())
    assert {"verdicts", "qualification", "traces"} <= set(opened.tables)


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE verdicts",
        "WITH gone AS (DELETE FROM verdicts RETURNING *) SELECT * FROM gone",
        "COPY verdicts TO '{out}'",
        "ATTACH '{out}' AS other",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '{readable}'",
        "SELECT * FROM opened",
        "SET enable_external_access = true",
        "SELECT 1; SELECT 2",
        "selec 1",
    ],
)
def test_a_query_changes_nothing_and_reads_no_other_file(
    opened: Results, text: str, tmp_path: Path
) -> None:
    readable, out = tmp_path / "other.csv", tmp_path / "out"
    readable.write_text("a\n1\n")
    with pytest.raises(UserError):
        opened.sql(text.replace("{out}", str(out)).replace("{readable}", str(readable)))
    assert not out.exists()
    assert opened.sql("SELECT count(*) > 0 AS there FROM verdicts").to_pylist() == [{"there": True}]


def test_too_many_rows_and_too_much_time_are_refused(
    opened: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "ARROW_ROWS", 1000)
    with pytest.raises(UserError, match="more than 1000 rows"):
        opened.sql("FROM range(5000)")
    monkeypatch.setattr(query, "TIME_LIMIT_S", 0.3)
    with pytest.raises(UserError, match="stopped after"):
        opened.sql("SELECT max(hash(a.range, b.range)) FROM range(1000000) a, range(1000000) b")
    assert opened.sql("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_one_run_can_be_opened_alone(root: str) -> None:
    with fleetqual.open(root) as results:
        (first, *_) = results.sql("SELECT run_id FROM runs").column("run_id").to_pylist()
    for name in (first[:6], "latest"):
        with fleetqual.open(root, run=name) as results:
            assert results.sql("FROM runs").num_rows == 1
    with pytest.raises(UserError, match="no run is called 'other'"):
        fleetqual.open(root, run="other")


def test_closed_results_answer_no_query(root: str) -> None:
    results = fleetqual.open(root)
    results.close()
    results.close()
    with pytest.raises(UserError, match="closed"):
        results.sql("SELECT 1")


def test_the_import_is_light() -> None:
    heavy = "{'ray', 'duckdb', 'pyarrow', 'typer', 'pydantic', 'numpy'}"
    script = f"import sys, fleetqual; print({heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
