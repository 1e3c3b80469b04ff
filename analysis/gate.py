"""The gate: which files of a run are evidence, and which are damaged and set aside.

DuckDB does not check page checksums and returns wrong numbers from flipped bits without a word; so
every file is read once here, page by page, before any query sees it. Verified files are remembered
with size and time of change, so that a later look at the same run costs a listing.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic import BaseModel

from analysis.verdict_tables import QualificationRow, VerdictRow
from runner.store import Store
from runner.tables import SCHEMA_VERSION, TABLES, arrow_schema
from suites.digest import tagged_digest

#: Written by the driver or by a judgement, so no attempt has to commit them.
UNCOMMITTED = ("runs", "cases", "plan", "attempts")
JUDGED: dict[str, type[BaseModel]] = {"verdicts": VerdictRow, "qualification": QualificationRow}
ALL_TABLES: dict[str, type[BaseModel]] = {**TABLES, **JUDGED}

_LEDGER = "verified.json"
_LEDGER_RULE = 1


@dataclass(frozen=True)
class Quarantined:
    """A file that is no evidence: damaged, of an unknown schema, or not there."""

    run_id: str
    table: str
    file: str
    """Relative to the run, where it was."""
    reason: str


@dataclass(frozen=True)
class Evidence:
    """What a run has to show."""

    run_id: str
    files: dict[str, tuple[str, ...]]
    """Per table, relative to the run; empty for a table without files."""
    quarantined: tuple[Quarantined, ...]
    fingerprint: str
    """Changes whenever a file of evidence does."""


@dataclass
class _Look:
    store: Store
    run_id: str
    stamps: dict[str, list[int]] = field(default_factory=dict)
    verified: dict[str, list[int]] = field(default_factory=dict)
    broken: dict[str, Quarantined] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"runs/{self.run_id}"


def inspect(store: Store, run_id: str) -> Evidence:
    """List a run's evidence; verify what is new and set aside what is broken."""
    look = _Look(store, run_id, verified=_remembered(store, run_id))
    before = dict(look.verified)
    files = {table: _sound(look, table, None) for table in (*UNCOMMITTED, *JUDGED)}
    committed = _committed(look, files["attempts"])
    for table in TABLES:
        if table not in UNCOMMITTED:
            files[table] = _sound(look, table, committed)
    for file in sorted(committed - look.stamps.keys() - look.broken.keys()):
        if not _was_set_aside(look, file):
            look.broken[file] = _named(look, file, "its attempt lists it, but it is not there")
    for earlier in _set_aside(look):
        if earlier.file not in look.stamps:
            look.broken.setdefault(earlier.file, earlier)
    kept = {f: look.stamps[f] for table in files.values() for f in table}
    if kept != before:
        _remember(look, kept)
    quarantined = tuple(look.broken[file] for file in sorted(look.broken))
    evidence = {f: stamp for f, stamp in kept.items() if f.split("/")[0] not in JUDGED}
    fingerprint = tagged_digest("e1", [evidence, [[q.file, q.reason] for q in quarantined]])
    return Evidence(run_id, files, quarantined, fingerprint)


def defect(store: Store, path: str, row: type[BaseModel], run_id: str | None) -> str | None:
    """Say what is wrong with a Parquet file beneath ``store``; None when every page is sound.

    Args:
        path: relative to the root.
        row: the stored model whose columns the file must have.
        run_id: the run that every row must belong to; None for files of no run.
    """
    try:
        with store.filesystem.open_input_file(store.path(path)) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            wrong = _other_columns(parquet.schema_arrow, arrow_schema(row))
            table = parquet.read()
            wrong = wrong or _other_rows(table, run_id)
            table.validate(full=True)
    # Damage takes any form: a flipped bit may end in any error of the reader, not only in Arrow's.
    except Exception as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        return f"damaged or unreadable ({first[0][:200]})"
    return wrong


def _other_columns(found: pa.Schema, declared: pa.Schema) -> str | None:
    for name in declared.names:
        if name not in found.names:
            return f"column {name!r} is missing"
    for name in found.names:
        if name not in declared.names:
            return f"column {name!r} is not known"
        if not found.field(name).type.equals(declared.field(name).type):
            expected, seen = declared.field(name).type, found.field(name).type
            return f"column {name!r} holds {seen}, declared is {expected}"
    return None


def _other_rows(table: pa.Table, run_id: str | None) -> str | None:
    if "schema_version" in table.column_names:
        for version in pc.unique(table["schema_version"]).to_pylist():
            if version != SCHEMA_VERSION:
                return f"schema version {version} is not known (this is version {SCHEMA_VERSION})"
    if run_id is not None:
        for other in pc.unique(table["run_id"]).to_pylist():
            if other != run_id:
                return f"its rows belong to run {other!r}"
    return None


def _sound(look: _Look, table: str, committed: set[str] | None) -> tuple[str, ...]:
    """Return a table's files that are committed and sound; set the broken ones aside."""
    sound = []
    for file, stamp in _listed(look.store, f"{look.folder}/{table}", table):
        if committed is not None and file not in committed:
            continue
        look.stamps[file] = stamp
        if look.verified.get(file) != stamp:
            path = f"{look.folder}/{file}"
            reason = defect(look.store, path, ALL_TABLES[table], look.run_id)
            if reason is not None:
                look.broken[file] = _named(look, file, reason)
                _move_aside(look, file)
                continue
        sound.append(file)
    return tuple(sound)


def _listed(store: Store, folder: str, prefix: str) -> list[tuple[str, list[int]]]:
    selector = pafs.FileSelector(store.path(folder), allow_not_found=True)
    return sorted(
        (f"{prefix}/{info.base_name}", [info.size, info.mtime_ns or 0])
        for info in store.filesystem.get_file_info(selector)
        if info.is_file
        and info.base_name.endswith(".parquet")
        and not info.base_name.startswith(".")
    )


def _committed(look: _Look, attempts: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    for file in attempts:
        for row in look.store.read_file(f"{look.folder}/{file}")["files"].to_pylist():
            found.update(row or ())
    return found


def _named(look: _Look, file: str, reason: str) -> Quarantined:
    return Quarantined(look.run_id, file.split("/")[0], file, reason)


def _move_aside(look: _Look, file: str) -> None:
    """Move a broken file out of the way; on object stores, or without the right, only name it."""
    if not look.store.local:
        return
    source = Path(look.store.path(f"{look.folder}/{file}"))
    target = Path(look.store.path(f"{look.folder}/quarantine/{file}"))
    with suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        del look.stamps[file]


def _set_aside(look: _Look) -> Iterator[Quarantined]:
    """Yield what earlier looks moved away; the reason is found again, so none is forgotten."""
    for table, row in ALL_TABLES.items():
        folder = f"{look.folder}/quarantine/{table}"
        for file, _ in _listed(look.store, folder, table):
            if file not in look.broken:
                reason = defect(look.store, f"{look.folder}/quarantine/{file}", row, look.run_id)
                yield _named(look, file, reason or "set aside earlier, though it reads well now")


def _was_set_aside(look: _Look, file: str) -> bool:
    path = look.store.path(f"{look.folder}/quarantine/{file}")
    return bool(look.store.filesystem.get_file_info(path).is_file)


def _remembered(store: Store, run_id: str) -> dict[str, list[int]]:
    """Return file → [size, mtime] of verified files; empty when the ledger is lost or broken."""
    try:
        with store.filesystem.open_input_stream(store.path(f"runs/{run_id}/{_LEDGER}")) as stream:
            ledger: dict[str, Any] = json.loads(stream.read())
        files: dict[str, list[int]] = ledger["files"] if ledger["rule"] == _LEDGER_RULE else {}
        return files if isinstance(files, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _remember(look: _Look, files: dict[str, list[int]]) -> None:
    body = json.dumps({"rule": _LEDGER_RULE, "files": files}, indent=0, sort_keys=True).encode()
    target = look.store.path(f"{look.folder}/{_LEDGER}")
    # A ledger that cannot be kept costs only time.
    with suppress(OSError):
        if look.store.local:
            Path(f"{target}.tmp").write_bytes(body)
            os.replace(f"{target}.tmp", target)
        else:
            with look.store.filesystem.open_output_stream(target) as stream:
                stream.write(body)
