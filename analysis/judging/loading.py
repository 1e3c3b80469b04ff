"""Evidence into DuckDB: tables from explicit file lists, references and declarations."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from pydantic import BaseModel

from analysis.judging.gate import JUDGED, Evidence, Quarantined, Rotten
from analysis.judging.parquet_defects import defect
from runner.stored.frozen_tables import FloorRow, ReferenceRow
from runner.stored.references import reference_roots
from runner.stored.store import Store
from runner.stored.tables import TABLES, arrow_schema, with_later_columns
from suites.errors import UserError

_EXPECTED = pa.schema(
    [
        ("run_id", pa.string()),
        ("entry", pa.int32()),
        ("engine", pa.string()),
        ("serving", pa.string()),
        ("model", pa.string()),
        ("suite", pa.string()),
        ("versions", pa.string()),
        ("stage", pa.string()),
        ("case_pattern", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("signature", pa.string()),
        ("sampler", pa.string()),
        ("bound", pa.float64()),
        ("reason", pa.string()),
    ]
)
_ROOTS = pa.schema([("run_id", pa.string()), ("rank", pa.int32()), ("root", pa.string())])
_QUARANTINED = pa.schema(
    [(name, pa.string()) for name in ("run_id", "table_name", "file", "reason")]
)


def load_evidence(
    con: duckdb.DuckDBPyConnection,
    store: Store,
    evidence: Sequence[Evidence],
    judging: Sequence[str],
) -> None:
    """Create one table per stored table, over all given runs.

    Runs that are being judged now bring no stored judgement; the others bring their newest.

    Raises:
        Rotten: a file is not what the gate verified.
    """
    con.execute("CREATE SCHEMA IF NOT EXISTS sources")
    for table, row in TABLES.items():
        files = [(e.run_id, f) for e in evidence for f in e.files[table]]
        _create(con, table, _read(store, files, row))
    con.execute(
        "CREATE OR REPLACE TABLE runs AS SELECT * FROM runs QUALIFY row_number() OVER "
        "(PARTITION BY run_id ORDER BY finished IS NOT NULL DESC, started DESC) = 1"
    )
    for table, judged_row in JUDGED.items():
        files = [
            (e.run_id, max(e.files[table]))
            for e in evidence
            if e.run_id not in judging and e.files[table]
        ]
        _create(con, f"sources.stored_{table}", _read(store, files, judged_row))
    _create(con, "sources.judging", pa.table({"run_id": pa.array(judging, pa.string())}))


def searched_roots(store: Store, config: Mapping[str, Any]) -> list[str]:
    """Return the folders or URIs that hold a run's references, in the order of search."""
    return list(config.get("references") or reference_roots(store.root))


def reference_state(root: str) -> list[list[Any]]:
    """Return name, size and time of change of every file of a reference root."""
    try:
        store = Store(root)
    except UserError:
        return []
    selector = pafs.FileSelector(store.base, allow_not_found=True, recursive=True)
    return sorted(
        [info.path.removeprefix(store.base), info.size, info.mtime_ns or 0]
        for info in store.filesystem.get_file_info(selector)
        if info.is_file and info.base_name.endswith(".parquet")
    )


def load_references(
    con: duckdb.DuckDBPyConnection, store: Store, configs: Mapping[str, Mapping[str, Any]]
) -> list[Quarantined]:
    """Create ``reference_traces``, ``floors`` and ``reference_roots``; return damaged files.

    Args:
        configs: run id → its resolved configuration; ``references`` lists the roots in order.
    """
    roots: list[dict[str, Any]] = []
    broken: list[Quarantined] = []
    for run_id, config in configs.items():
        for rank, root in enumerate(searched_roots(store, config)):
            roots.append({"run_id": run_id, "rank": rank, "root": root})
    known_cases = con.sql("SELECT DISTINCT case_digest FROM cases").to_arrow_table()
    traces: list[pa.Table] = []
    floors: list[pa.Table] = []
    for root in dict.fromkeys(str(r["root"]) for r in roots):
        found, bad = _reference_files(root, "", ReferenceRow)
        wanted = [t.filter(pc.is_in(t["case_digest"], known_cases["case_digest"])) for t in found]
        traces += [_with_root(t, root) for t in wanted]
        more, worse = _reference_files(root, "floors", FloorRow)
        floors += [_with_root(t, root) for t in more]
        broken += bad + worse
    _create(con, "sources.reference_roots", pa.Table.from_pylist(roots, _ROOTS))
    _create(con, "sources.reference_traces", _stacked(traces, ReferenceRow))
    _create(con, "sources.floors", _stacked(floors, FloorRow))
    return broken


def load_declarations(
    con: duckdb.DuckDBPyConnection,
    configs: Mapping[str, Mapping[str, Any]],
    quarantined: Iterable[Quarantined],
) -> None:
    """Create ``expected_entries`` (one row per entry, case and signature) and ``quarantined``."""
    rows = [
        {"run_id": run_id, "entry": index, **row}
        for run_id, config in configs.items()
        for index, entry in enumerate(config.get("expected") or [])
        for row in _declared(entry)
    ]
    _create(con, "sources.expected_entries", pa.Table.from_pylist(rows, _EXPECTED))
    aside = [
        {"run_id": q.run_id, "table_name": q.table, "file": q.file, "reason": q.reason}
        for q in quarantined
    ]
    _create(con, "sources.quarantined", pa.Table.from_pylist(aside, _QUARANTINED))


def run_configs(con: duckdb.DuckDBPyConnection, run_ids: Iterable[str]) -> dict[str, Any]:
    """Return each run's resolved configuration; empty for a run whose ``runs`` file is lost."""
    found = dict(con.execute("SELECT run_id, config FROM runs").fetchall())
    return {run_id: json.loads(found.get(run_id, "{}")) for run_id in run_ids}


def _declared(entry: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    names = ("engine", "serving", "model", "suite", "versions", "stage", "bound", "reason")
    row = {name: entry.get(name) for name in names}
    row["tags"] = list(entry.get("tags") or []) or None
    for case, samplers in (entry.get("sampler") or {}).items():
        for sampler in samplers:
            yield {**row, "case_pattern": case, "sampler": json.dumps(sampler)}
    if entry.get("sampler"):
        return
    signature = entry.get("signature")
    if isinstance(signature, Mapping):
        for case, digests in signature.items():
            for digest in [digests] if isinstance(digests, str) else digests:
                yield {**row, "case_pattern": case, "signature": digest}
        return
    for case in entry.get("cases") or [None]:
        yield {**row, "case_pattern": case, "signature": signature}


def _reference_files(
    root: str, folder: str, row: type[BaseModel]
) -> tuple[list[pa.Table], list[Quarantined]]:
    tables, broken = [], []
    try:
        store = Store(root)
        files = store.parquet_files(folder)
    except (UserError, OSError) as error:
        return [], [Quarantined("", "references", root, str(error).splitlines()[0])]
    for file in files:
        wrong = defect(store, file, row, None)
        if wrong is None:
            table = with_later_columns(store.read_file(file), row)
            tables.append(table.select(arrow_schema(row).names))
        else:
            name = f"{root}/{file.lstrip('/')}"
            broken.append(Quarantined("", "references", name, wrong.reason))
    return tables, broken


def _with_root(table: pa.Table, root: str) -> pa.Table:
    return table.append_column("root", pa.array([root] * len(table), pa.string()))


def _stacked(tables: Sequence[pa.Table], row: type[BaseModel]) -> pa.Table:
    empty = _with_root(arrow_schema(row).empty_table(), "")
    return pa.concat_tables([empty, *tables])


def _read(store: Store, files: Sequence[tuple[str, str]], row: type[BaseModel]) -> pa.Table:
    """Read (run, file) one after another, so that an error names its file.

    Raises:
        Rotten: a file is not what the gate verified.
    """
    tables = [arrow_schema(row).empty_table()]
    for run_id, file in files:
        try:
            found = with_later_columns(store.read_file(f"runs/{run_id}/{file}"), row)
            tables.append(found.select(tables[0].column_names).cast(tables[0].schema))
        except (UserError, OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise Rotten(run_id, file) from error
    return pa.concat_tables(tables)


def _create(con: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> None:
    """Materialise an Arrow table; times become UTC timestamps, which need no time-zone data."""
    for index, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            plain = table.column(index).cast(pa.timestamp("us"))
            table = table.set_column(index, column.name, plain)
    con.register("arriving", table)
    con.execute(f"CREATE TABLE {name} AS SELECT * FROM arriving")
    con.unregister("arriving")
