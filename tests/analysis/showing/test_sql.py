"""Users' SQL reads the evidence and can do nothing else."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from analysis.judging.relations import public_relations
from analysis.showing import sql as query
from analysis.showing.sql import ask, locked_catalog, run_sql
from runner.stored.tables import TABLES
from suites.errors import UserError
from tests.analysis.handmade import Bench

PUBLIC = ["alignments", "divergences", "verdicts", "qualification", "performance", "changes"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    return Bench(tmp_path_factory.mktemp("results")).write()


@pytest.fixture(scope="module")
def con(results: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with locked_catalog(results) as con:
        yield con


@pytest.mark.parametrize(
    "attack",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
        "COPY verdicts TO '{out}'",
        "COPY (SELECT 1) TO '{out}' (FORMAT parquet)",
        "EXPORT DATABASE '{out}'",
        "ATTACH '{out}' AS other",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "RESET lock_configuration",
        "PRAGMA database_list",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT getenv('HOME')",
        "CREATE TABLE x AS SELECT 1",
        "DROP TABLE verdicts",
        "DELETE FROM verdicts",
        "WITH gone AS (DELETE FROM verdicts RETURNING *) SELECT * FROM gone",
        "EXPLAIN ANALYZE DELETE FROM verdicts",
        "EXPLAIN ANALYZE CREATE TEMP TABLE verdicts AS SELECT 'qualified' AS verdict",
        "explain /* x */ (analyze) CREATE TEMP TABLE verdicts AS SELECT 1",
        "EXPLAIN ANALYZE SET threads = 1",
        "CREATE TEMP TABLE verdicts AS (PIVOT plan ON suite USING count(*))",
        "EXPLAIN EXPLAIN SELECT 1",
        "UPDATE verdicts SET verdict = 'qualified'",
        "SELECT 1; DROP TABLE verdicts",
        "CALL pragma_version()",
        "CHECKPOINT",
        "SELECT shown_difference('a', 'b')",
        "selec 1",
        "",
    ],
)
def test_an_attack_is_refused_in_one_message(
    con: duckdb.DuckDBPyConnection, attack: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError):
        ask(con, attack.replace("{out}", str(out)))
    assert not out.exists()
    assert ask(con, "SELECT count(*) > 0 FROM verdicts")[1] == [(True,)]


@pytest.mark.parametrize("name", [*PUBLIC, "tokens", "positions", "traces", "requests", "nodes"])
def test_tables_and_relations_can_be_asked(con: duckdb.DuckDBPyConnection, name: str) -> None:
    columns, _ = ask(con, f"FROM {name} LIMIT 3")
    assert "run_id" in columns


def test_only_public_tables_and_relations_are_listed(con: duckdb.DuckDBPyConnection) -> None:
    listed = {row[0] for row in ask(con, "SHOW TABLES")[1]}
    assert listed == {*TABLES, *public_relations()}
    assert set(PUBLIC) <= listed


@pytest.mark.parametrize("text", ["SHOW TABLES", "DESCRIBE verdicts", "SUMMARIZE verdicts"])
def test_looking_around_is_allowed(con: duckdb.DuckDBPyConnection, text: str) -> None:
    assert ask(con, text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "-- a comment\nEXPLAIN (ANALYZE) FROM verdicts",
        "EXPLAIN (SELECT 1)",
        "PIVOT verdicts ON verdict USING count(*) GROUP BY stage",
        "FROM (PIVOT verdicts ON verdict USING count(*) GROUP BY stage)",
    ],
)
def test_plans_and_pivots_can_be_asked(con: duckdb.DuckDBPyConnection, text: str) -> None:
    assert ask(con, text)[1]


def test_times_with_a_zone_can_be_asked(con: duckdb.DuckDBPyConnection) -> None:
    columns, rows = ask(con, "SELECT now() AS a, [now()] AS b, 7 AS c -- so late;")
    assert columns == ["a", "b", "c"]
    assert rows[0][0].startswith("20")
    assert rows[0][2] == 7


def test_limits_hold_before_anything_is_loaded(
    results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with locked_catalog(results) as con:
        settings = dict(
            ask(con, "SELECT name, value FROM duckdb_settings() WHERE name = 'temp_directory'")[1]
        )
    assert settings == {"temp_directory": ""}
    monkeypatch.setattr(query, "MEMORY_LIMIT", "1MB")
    with pytest.raises(UserError, match="1MB"), locked_catalog(results):
        pass


def test_a_query_that_takes_too_long_is_stopped(
    con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "TIME_LIMIT_S", 0.3)
    with pytest.raises(UserError, match="stopped after"):
        ask(con, "SELECT max(hash(a.range, b.range)) FROM range(1000000) a, range(1000000) b")
    assert ask(con, "SELECT 1")[1] == [(1,)]


def test_json_and_table_output(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = "SELECT stage, verdict, 'nan'::DOUBLE AS x FROM verdicts WHERE stage = 'stop'"
    assert run_sql(results, text, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == [{"stage": "stop", "verdict": "qualified", "x": None}]


def test_json_output_is_json_whatever_the_type(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        "SELECT DATE '2020-01-02' AS d, TIMESTAMP '2020-01-02 03:04:05' AS t, TIME '10:00' AS h, "
        "'x'::BLOB AS b, '\\xFF'::BLOB AS raw, ['nan'::DOUBLE, 1] AS n, 1.5::DECIMAL(4, 2) AS q, "
        "sum(3::HUGEINT) AS s, INTERVAL 1 DAY AS i, {'k': DATE '2020-01-02'} AS o, 1 AS x, 2 AS x"
    )
    run_sql(results, text, as_json=True)
    (found,) = json.loads(capsys.readouterr().out)
    assert found == {
        "d": "2020-01-02",
        "t": "2020-01-02T03:04:05+00:00",
        "h": "10:00:00",
        "b": "x",
        "raw": "ff",
        "n": [None, 1.0],
        "q": 1.5,
        "s": 3,
        "i": "1 day, 0:00:00",
        "o": {"k": "2020-01-02"},
        "x": 1,
        "x_1": 2,
    }


def test_a_long_answer_is_cut_in_display_and_says_so(
    results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_sql(results, "FROM range(500)")
    assert "the first 200 of 500 rows" in capsys.readouterr().out


def test_the_prompt_answers_statements_until_exit(
    results: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 40 +\n2 AS a;\nDROP TABLE plan;\nexit\n"))
    assert run_sql(results) == 0
    text = capsys.readouterr().out
    assert "42" in text
    assert "DROP is not allowed" in text


def test_a_results_root_without_runs_can_be_asked(tmp_path: Path) -> None:
    with locked_catalog(str(tmp_path)) as con:
        assert ask(con, "SELECT count(*) FROM qualification")[1] == [(0,)]
