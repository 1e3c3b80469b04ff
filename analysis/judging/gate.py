"""The gate: which files of a run are evidence, and which are damaged and set aside.

DuckDB does not check page checksums and returns wrong numbers from flipped bits without a word; so
every file is read once here, page by page, before any query sees it. Verified files are remembered
with size and time of change, so that a later look at the same run costs a listing.
"""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
from pydantic import BaseModel

from analysis.judging.judgement_tables import QualificationRow, VerdictRow
from analysis.judging.parquet_defects import defect
from runner.stored.store import Store
from runner.stored.tables import TABLES
from suites.digest import tagged_digest
from suites.errors import UserError

#: Written by the driver or by a judgement, so no attempt has to commit them.
UNCOMMITTED = ("runs", "cases", "plan", "attempts")
JUDGED: dict[str, type[BaseModel]] = {"verdicts": VerdictRow, "qualification": QualificationRow}
ALL_TABLES: dict[str, type[BaseModel]] = {**TABLES, **JUDGED}

_LEDGER = "verified.json"
_LEDGER_RULE = 1


class Rotten(Exception):
    """A file that the ledger vouches for does not read: its bits changed, its size and time not."""

    def __init__(self, run_id: str, file: str) -> None:
        super().__init__(run_id, file)
        self.run_id, self.file = run_id, file


@dataclass(frozen=True)
class Quarantined:
    """A file that is no evidence: damaged, unreadable, of an unknown schema, or not there."""

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
    """What the ledger vouches for."""
    broken: dict[str, Quarantined] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return f"runs/{self.run_id}"


def inspect(store: Store, run_id: str, distrusted: Collection[str] = ()) -> Evidence:
    """List a run's evidence; verify what is new and set aside what is damaged.

    Args:
        store: the results root.
        run_id: the run.
        distrusted: files to verify whatever the ledger says.
    """
    before = _remembered(store, run_id)
    look = _Look(store, run_id, verified={f: s for f, s in before.items() if f not in distrusted})
    files = {table: _sound(look, table, None) for table in (*UNCOMMITTED, *JUDGED)}
    committed: set[str] = set()
    for file in files["attempts"]:
        listed = _listed_by(look, file)
        if listed is None:
            return inspect(store, run_id, {*distrusted, file})
        committed |= listed
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
    # A judgement says nothing of its own: a broken one is made again from the same evidence.
    lost = [[q.file, q.reason] for q in quarantined if q.table not in JUDGED]
    fingerprint = tagged_digest("e1", [evidence, lost])
    return Evidence(run_id, files, quarantined, fingerprint)


def _sound(look: _Look, table: str, committed: set[str] | None) -> tuple[str, ...]:
    """Return a table's files that are committed and sound; set the damaged ones aside."""
    sound = []
    for file, stamp in _listed(look.store, f"{look.folder}/{table}", table):
        if committed is not None and file not in committed:
            continue
        look.stamps[file] = stamp
        if look.verified.get(file) != stamp:
            path = f"{look.folder}/{file}"
            found = defect(look.store, path, ALL_TABLES[table], look.run_id)
            if found is not None:
                look.broken[file] = _named(look, file, found.reason)
                # What is whole belongs to someone: an older or newer version may read it.
                if found.damaged:
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


def _listed_by(look: _Look, file: str) -> set[str] | None:
    """Return the files that an attempts file commits; None when only the ledger took it for whole.

    Raises:
        UserError: it was verified just now, and still does not read.
    """
    try:
        rows = look.store.read_file(f"{look.folder}/{file}")["files"].to_pylist()
    except UserError:
        if file in look.verified:
            return None
        raise
    return {name for row in rows for name in row or ()}


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
    """Yield evidence that earlier looks moved away; the reason is found again, none is forgotten.

    Judgements are not evidence: a broken one is named when it is found, and made again.
    """
    for table, row in TABLES.items():
        folder = f"{look.folder}/quarantine/{table}"
        for file, _ in _listed(look.store, folder, table):
            if file not in look.broken:
                found = defect(look.store, f"{look.folder}/quarantine/{file}", row, look.run_id)
                well = "set aside earlier, though it reads well now: move it back from quarantine/"
                yield _named(look, file, found.reason if found else well)


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
