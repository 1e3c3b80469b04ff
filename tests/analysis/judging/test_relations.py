"""Relations are built when they are asked for; a broken one is named by its file."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from analysis.judging import relations
from analysis.judging.relations import LAYERS, VIEWS, WORDING, Relations, file_of, reads
from runner.stored.tables import TABLES
from suites.errors import UserError


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as con:
        yield con


@pytest.fixture
def views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder of relations that stands for the real one."""
    folder = tmp_path / "views"
    for layer in LAYERS:
        (folder / layer).mkdir(parents=True)
    monkeypatch.setattr(relations, "VIEWS", folder)
    return folder


def relation_files() -> list[Path]:
    """Return every file that holds a relation; the files of wording hold macros."""
    files = [file for file in sorted(VIEWS.rglob("*.sql")) if file.parent.name != WORDING]
    assert files
    return files


def built(con: duckdb.DuckDBPyConnection) -> set[str]:
    query = "SELECT schema_name || '.' || table_name FROM duckdb_tables()"
    return {row[0] for row in con.execute(query).fetchall()}


def test_a_query_builds_what_it_reads_and_nothing_else(
    con: duckdb.DuckDBPyConnection, views: Path
) -> None:
    (views / "sources/one.sql").write_text("SELECT 1 AS n")
    (views / "staging/two.sql").write_text("SELECT n + 1 AS n FROM sources.one")
    (views / "staging/other.sql").write_text("SELECT n FROM sources.one")
    (views / "public/three.sql").write_text("WITH one AS (FROM staging.two) SELECT n FROM one")
    Relations(con).build_for("SELECT n FROM three WHERE n > ?")
    assert built(con) == {"sources.one", "staging.two", "main.three"}
    assert con.execute("SELECT n FROM three").fetchall() == [(2,)]


def test_a_part_of_a_query_hides_the_relation_of_its_name() -> None:
    query = (
        "WITH verdicts AS (FROM staging.pairs), x AS MATERIALIZED (SELECT 1 FROM traces) "
        "SELECT (SELECT max(n) FROM sources.rules), * FROM verdicts WHERE EXISTS (FROM x) "
        "UNION ALL BY NAME FROM numeric.cases -- FROM chain.grouped"
    )
    assert reads(query) == {"staging.pairs", "traces", "sources.rules", "numeric.cases"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("-- One row.\nSELECT\n    n\nFORM sources.one", 4, "syntax error"),
        ("-- One row.\nSELECT\n    n,\n    m\nFROM sources.one", 4, '"m" not found'),
        ("-- One row.\nSELECT n\nFROM sources.two", 3, "two does not exist"),
    ],
)
def test_a_typo_is_one_error_that_names_file_and_line(
    con: duckdb.DuckDBPyConnection, views: Path, text: str, line: int, message: str
) -> None:
    (views / "sources/one.sql").write_text("SELECT 1 AS n")
    (views / "staging/broken.sql").write_text(text)
    (views / "public/asked.sql").write_text("FROM staging.broken")
    with pytest.raises(UserError) as raised:
        Relations(con).build_for("FROM asked")
    assert raised.value.where == f"views/staging/broken.sql:{line}"
    assert message in raised.value.what


def test_relations_that_read_each_other_are_an_error(
    con: duckdb.DuckDBPyConnection, views: Path
) -> None:
    (views / "staging/a.sql").write_text("FROM staging.b")
    (views / "staging/b.sql").write_text("FROM staging.a")
    with pytest.raises(UserError, match=r"staging.a -> staging.b -> staging.a"):
        Relations(con).build("staging.a")


def test_every_relation_reads_only_what_is_loaded_or_has_a_file() -> None:
    loaded = {"judging", "reference_roots", "reference_traces", "floors", "expected_entries"}
    loaded |= {"quarantined", "stored_verdicts", "stored_qualification"}
    known = TABLES.keys() | {f"sources.{name}" for name in loaded}
    for file in relation_files():
        for name in reads(file.read_text(encoding="utf-8")):
            assert name in known or file_of(name), f"{file.name} reads {name}"


def test_every_file_begins_with_its_grain() -> None:
    without = [
        file.name
        for file in relation_files()
        if not file.read_text(encoding="utf-8").startswith("-- One row is ")
    ]
    assert without == []


def test_every_folder_of_views_is_a_layer_and_no_name_needs_quotes() -> None:
    assert {path.name for path in VIEWS.iterdir()} == {*LAYERS, WORDING}
    assert all(file.stem.isidentifier() and file.stem.islower() for file in VIEWS.rglob("*.sql"))
