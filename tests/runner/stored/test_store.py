"""Parquet appears whole or not at all, and a damaged page is never read as data."""

import datetime as dt
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.stored.store import Store
from runner.stored.tables import TABLES, AttemptRow, TraceRow, arrow_schema
from suites.errors import UserError

FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=5)
TRACES = st.builds(
    TraceRow,
    run_id=st.just("r"),
    cell_id=st.none() | st.text(max_size=5),
    node_id=st.just("n"),
    attempt=st.integers(1, 9),
    case_id=st.text(min_size=1, max_size=10),
    stage=st.just("logits"),
    probe=st.just("prefill"),
    observed=st.just("path"),
    tags=st.lists(st.text(max_size=3), max_size=3),
    text=st.none() | st.text(),
    prompt_ids=st.none() | st.lists(st.integers(0, 2**31 - 1), max_size=5),
    logprobs=st.none() | FLOATS,
    ref_topk_logprobs=st.none() | st.lists(FLOATS, max_size=3),
)


def _trace(case_id: str = "a") -> TraceRow:
    return TraceRow(run_id="r", case_id=case_id, stage="stop", probe="isolate", observed="path")


@settings(max_examples=40, deadline=None)
@given(st.lists(TRACES, max_size=4))
def test_rows_come_back_as_they_were_written(rows: list[TraceRow]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.write("r", "traces", "a", rows)
        assert [TraceRow(**row) for row in store.read("r", "traces")] == rows


def test_every_table_carries_the_keys_and_its_declared_columns() -> None:
    for row in TABLES.values():
        names = arrow_schema(row).names
        assert names[:5] == ["schema_version", "run_id", "cell_id", "node_id", "attempt"]
        assert len(names) == len(row.model_fields)
    assert "pass" in arrow_schema(TABLES["plan"]).names


def test_a_file_is_whole_and_synced_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, int, int]] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        sync(descriptor)
        seen = os.fstat(descriptor)
        steps.append(("synced", seen.st_ino, seen.st_size))

    def renamed(source: str, target: Path) -> None:
        seen = os.stat(source)
        steps.append(("renamed", seen.st_ino, seen.st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    Store(str(tmp_path)).write("r", "traces", "a", [_trace()])
    found = (tmp_path / "runs/r/traces/a.parquet").stat()
    assert steps == [(step, found.st_ino, found.st_size) for step in ("synced", "renamed")]


def test_an_unfinished_file_is_not_listed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("r", "traces", "a", [_trace()])
    (tmp_path / "runs/r/traces/b.parquet.tmp").write_bytes(b"half")
    (tmp_path / "runs/r/traces/.c.parquet").write_bytes(b"hidden")
    assert store.files("r", "traces") == ["traces/a.parquet"]


def test_runs_are_listed_oldest_first_and_no_root_means_no_runs(tmp_path: Path) -> None:
    assert Store(str(tmp_path / "none")).runs() == []
    store = Store(str(tmp_path))
    for run in ("20260102-000000-aaaa", "20260101-000000-bbbb"):
        store.write(run, "traces", "a", [_trace()])
    assert store.runs() == ["20260101-000000-bbbb", "20260102-000000-aaaa"]


def test_a_flipped_bit_is_found_and_the_file_is_named(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write("r", "traces", "a", [_trace(f"case-{i}") for i in range(200)])
    path = tmp_path / "runs/r/traces/a.parquet"
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(5)
    first = column.dictionary_page_offset or column.data_page_offset
    at = random.Random(1).randrange(first + 40, first + column.total_compressed_size)
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(UserError, match=r"a\.parquet"):
        store.read("r", "traces")


def test_floats_are_byte_split_and_pages_carry_checksums(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    row = _trace().model_copy(update={"logprobs": [0.5] * 50})
    store.write("r", "traces", "a", [row])
    metadata = pq.ParquetFile(tmp_path / "runs/r/traces/a.parquet").metadata.row_group(0)
    columns = {metadata.column(i).path_in_schema: metadata.column(i) for i in range(24)}
    assert "BYTE_STREAM_SPLIT" in columns["logprobs.list.element"].encodings
    assert columns["case_id"].compression == "ZSTD"


def test_a_file_uri_is_a_results_root_too(tmp_path: Path) -> None:
    Store(tmp_path.as_uri()).write("r", "traces", "a", [_trace()])
    assert Store(str(tmp_path)).read("r", "traces")[0]["case_id"] == "a"


def test_an_unknown_scheme_is_a_user_s_error() -> None:
    with pytest.raises(UserError, match="results root"):
        Store("nosuchscheme://bucket")


def test_times_are_stored_in_utc(tmp_path: Path) -> None:
    at = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    row = AttemptRow(run_id="r", status="ok", started=at, duration_s=1, hardware="h")
    store = Store(str(tmp_path))
    store.write("r", "attempts", "a", [row])
    assert store.read("r", "attempts")[0]["started"] == at
    assert arrow_schema(AttemptRow).field("started").type == pa.timestamp("us", tz="UTC")
