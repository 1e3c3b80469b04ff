"""Only committed, undamaged files of a known schema are evidence."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from analysis.judging.gate import Evidence, inspect
from analysis.showing.check import check
from analysis.showing.sql import locked_catalog
from runner.stored.store import Store
from runner.stored.tables import TABLES, TraceRow
from tests.analysis.handmade import RUN, Bench, Cell

WRITTEN = ("runs", "cases", "plan", "attempts", "traces", "requests", "nodes")


def look(bench: Bench) -> Evidence:
    return inspect(Store(bench.results), RUN)


def first_file(bench: Bench, table: str) -> Path:
    return sorted((bench.root / "runs" / RUN / table).glob("*.parquet"))[0]


def flip_until_broken(path: Path) -> None:
    """Flip one bit of a data page (page headers hold bits that mean nothing)."""
    import pyarrow.parquet as pq

    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    body = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    body[start + column.total_compressed_size - 1] ^= 0x01
    path.write_bytes(bytes(body))


def test_all_committed_files_of_a_clean_run_are_evidence(bench: Bench) -> None:
    bench.write()
    evidence = look(bench)
    assert evidence.quarantined == ()
    assert {table for table, files in evidence.files.items() if files} == set(WRITTEN)


def test_files_that_no_attempt_commits_are_ignored(bench: Bench) -> None:
    bench.write()
    stray = TraceRow(run_id=RUN, case_id="x", stage="stop", probe="isolate", observed="path")
    Store(bench.results).write(RUN, "traces", "uncommitted", [stray])
    assert "traces/uncommitted.parquet" not in look(bench).files["traces"]


def test_an_unfinished_file_is_ignored(bench: Bench) -> None:
    bench.write()
    (bench.root / "runs" / RUN / "attempts" / "half.parquet.tmp").write_bytes(b"PAR1")
    assert look(bench).quarantined == ()


@pytest.mark.parametrize("table", WRITTEN)
def test_a_flipped_bit_in_any_table_is_quarantined_named_and_exits_3(
    bench: Bench, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The second cell's files stay whole.
    bench.cells = [Cell("c1:0001"), Cell("c1:0002")]
    bench.write()
    path = first_file(bench, table)
    flip_until_broken(path)
    # A damaged `runs` row leaves the other one, so the run still knows its configuration.
    code = check(bench.results, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert [q["file"] for q in said["quarantined"]] == [f"{table}/{path.name}"]
    assert code == said["exit_code"] == 3
    assert not path.exists()
    assert (bench.root / "runs" / RUN / "quarantine" / table / path.name).exists()
    if table in ("attempts", "traces", "requests", "nodes"):
        verdicts = {row["cell_id"]: row["verdict"] for row in said["qualification"]}
        assert verdicts["c1:0002"] == "qualified"


def flip_unseen(path: Path) -> None:
    """Change a bit as a failing disk does: size and time of change stay."""
    before = path.stat()
    flip_until_broken(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A run of two cells that was judged; tests change copies of it."""
    bench = Bench(tmp_path_factory.mktemp("checked"))
    bench.cells = [Cell("c1:0001"), Cell("c1:0002")]
    bench.write()
    assert check(bench.results) == 0
    return bench


def copied(checked: Bench, bench: Bench) -> Bench:
    """Copy a judged run, with the times by which its ledger knows each file."""
    shutil.copytree(checked.root / "runs", bench.root / "runs")
    return bench


@pytest.mark.parametrize("table", WRITTEN)
def test_a_bit_that_flips_after_verification_costs_that_file_and_nothing_else(
    checked: Bench, bench: Bench, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(checked, bench)
    path = first_file(bench, table)
    flip_unseen(path)
    capsys.readouterr()
    code = check(bench.results, RUN, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert [q["file"] for q in said["quarantined"]] == [f"{table}/{path.name}"]
    assert code == said["exit_code"] == 3
    assert not path.exists()
    if table in ("attempts", "traces", "requests", "nodes"):
        verdicts = {row["cell_id"]: row["verdict"] for row in said["qualification"]}
        assert verdicts["c1:0002"] == "qualified"
    assert check(bench.results, RUN) == 3


def test_bit_rot_is_found_by_a_question_in_sql_too(checked: Bench, bench: Bench) -> None:
    copied(checked, bench)
    flip_unseen(first_file(bench, "traces"))
    with locked_catalog(bench.results) as con:
        found = dict(con.execute("SELECT cell_id, verdict FROM qualification").fetchall())
    assert found == {"c1:0001": "inconclusive", "c1:0002": "qualified"}


def test_a_judgement_that_rots_unseen_is_made_again(checked: Bench, bench: Bench) -> None:
    copied(checked, bench)
    flip_unseen(first_file(bench, "verdicts"))
    assert [check(bench.results) for _ in range(2)] == [0, 0]


def test_a_file_that_cannot_be_read_now_is_named_and_left_where_it_is(
    bench: Bench,
) -> None:
    bench.write()
    path = first_file(bench, "requests")
    store = Store(bench.results)
    real = store.filesystem

    class Away:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def open_input_file(self, target: str) -> object:
            if target.endswith(f"requests/{path.name}"):
                raise PermissionError(13, "Permission denied", target)
            return real.open_input_file(target)

    store.filesystem = Away()
    (named,) = inspect(store, RUN).quarantined
    assert (named.file, "cannot be read now" in named.reason) == (f"requests/{path.name}", True)
    assert path.exists()
    assert look(bench).quarantined == ()


def test_a_quarantined_file_is_still_named_the_next_time(bench: Bench) -> None:
    bench.write()
    flip_until_broken(first_file(bench, "requests"))
    first, second = look(bench), look(bench)
    assert first.quarantined == second.quarantined != ()


def test_a_file_written_anew_after_its_quarantine_is_evidence_again(bench: Bench) -> None:
    bench.write()
    flip_until_broken(first_file(bench, "attempts"))
    assert look(bench).quarantined
    bench.write()
    assert look(bench).quarantined == ()


def test_a_file_changed_after_verification_is_verified_again(bench: Bench) -> None:
    bench.write()
    assert look(bench).quarantined == ()
    flip_until_broken(first_file(bench, "traces"))
    assert [q.table for q in look(bench).quarantined] == ["traces"]


@pytest.mark.parametrize("body", [None, "", "[]", '{"rule": 1, "files": 3}', "{"])
def test_a_lost_or_broken_ledger_costs_only_time(bench: Bench, body: str | None) -> None:
    bench.write()
    before = look(bench)
    ledger = bench.root / "runs" / RUN / "verified.json"
    ledger.unlink() if body is None else ledger.write_text(body)
    assert look(bench) == before


def test_a_committed_file_that_is_gone_is_named(bench: Bench) -> None:
    bench.write()
    path = first_file(bench, "requests")
    path.unlink()
    (gone,) = look(bench).quarantined
    assert gone.file == f"requests/{path.name}"
    assert "not there" in gone.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.drop_columns(["status"]), "'status' is missing"),
        (lambda t: t.append_column("more", pa.array([1] * len(t))), "'more' is not known"),
        (
            lambda t: t.set_column(0, "schema_version", pa.array([9] * len(t), pa.int32())),
            "schema version 9",
        ),
        (lambda t: t.set_column(1, "run_id", pa.array(["other"] * len(t))), "run 'other'"),
    ],
)
def test_an_unknown_schema_is_named_left_out_and_left_in_place(
    bench: Bench, change: object, reason: str
) -> None:
    bench.write()
    path = first_file(bench, "attempts")
    store = Store(bench.results)
    relative = f"runs/{RUN}/attempts/{path.name}"
    store.write_table(relative, change(store.read_file(relative)))  # type: ignore[operator]
    (named,) = look(bench).quarantined
    assert reason in named.reason
    assert look(bench).files["attempts"] == ()
    assert path.exists()


def test_every_stored_table_can_be_empty(tmp_path: Path) -> None:
    bench = Bench(tmp_path, cells=[])
    bench.write()
    assert look(bench).files["traces"] == ()
    assert set(TABLES) <= set(look(bench).files)
