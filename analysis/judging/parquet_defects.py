"""What is wrong with a Parquet file: damage for good, or what another reader may get over."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from runner.stored.store import Store
from runner.stored.tables import SCHEMA_VERSION, arrow_schema, with_later_columns


@dataclass(frozen=True)
class Defect:
    """What is wrong with a file."""

    reason: str
    damaged: bool
    """Its bytes are broken for good; else another program or another time may well read it."""


def defect(store: Store, path: str, row: type[BaseModel], run_id: str | None) -> Defect | None:
    """Say what is wrong with a Parquet file beneath ``store``; None when every page is sound.

    Args:
        path: relative to the root.
        row: the stored model whose columns the file must have.
        run_id: the run that every row must belong to; None for files of no run.
    """
    # The bytes first: what fails here is the disk, the network or a permission, not the file.
    try:
        with store.filesystem.open_input_file(store.path(path)) as file:
            body = file.read_buffer()
    except OSError as error:
        return Defect(f"cannot be read now ({_first_line(error)})", damaged=False)
    try:
        parquet = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
        table = parquet.read()
        table.validate(full=True)
        wrong = _other_columns(with_later_columns(table, row).schema, arrow_schema(row))
        wrong = wrong or _other_rows(table, run_id)
    # Damage takes any form: a flipped bit may end in any error of the reader, not only in Arrow's.
    except Exception as error:
        return Defect(f"damaged or unreadable ({_first_line(error)})", damaged=True)
    return None if wrong is None else Defect(wrong, damaged=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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
