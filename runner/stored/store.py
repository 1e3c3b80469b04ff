"""Parquet in and out: all evidence is written to and read from a results root here.

A file appears whole or not at all. Local files are written under another name, synced and renamed;
an object store gets one PUT to the final key.
"""

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from pydantic import BaseModel

from runner.stored.tables import TABLES, arrow_schema, column_name, with_later_columns
from suites.errors import UserError


def attempt_name(cell_id: str, node_id: str, attempt: int) -> str:
    """Return the file name of an attempt: it is the same in every table."""
    return f"{cell_id}-{node_id}-a{attempt}".replace(":", "-")


class Store:
    """A results root: a folder, or an object-store URI such as ``s3://bucket/prefix``."""

    def __init__(self, root: str) -> None:
        self.root = root
        if "://" in root:
            try:
                self.filesystem, self.base = pafs.FileSystem.from_uri(root)
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(
                    f"cannot open the results root {root!r}: {error}",
                    fix="give a folder, or a URI that pyarrow.fs knows (s3://, gs://, file://)",
                ) from error
        else:
            self.filesystem, self.base = pafs.LocalFileSystem(), str(Path(root).absolute())

    @property
    def local(self) -> bool:
        """Whether the root is a folder of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def path(self, relative: str) -> str:
        """Return the path of ``relative`` inside ``filesystem``."""
        return f"{self.base}/{relative}"

    def write(self, run_id: str, table: str, name: str, rows: Sequence[BaseModel]) -> str:
        """Write ``rows`` as one file of a run's table; return its path relative to the run."""
        relative = f"{table}/{name}.parquet"
        self.write_to(f"runs/{run_id}/{relative}", rows, TABLES[table])
        return relative

    def write_to(self, relative: str, rows: Sequence[BaseModel], row: type[BaseModel]) -> None:
        """Write ``rows`` of type ``row`` to any path below the root."""
        columns = {
            column_name(field): [getattr(r, field) for r in rows] for field in row.model_fields
        }
        self.write_table(relative, pa.Table.from_pydict(columns, schema=arrow_schema(row)))

    def write_text(self, relative: str, text: str) -> None:
        """Write a text file to any path below the root."""
        target, data = self.path(relative), text.encode("utf-8", "replace")
        if not self.local:
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(data)
            return
        with _as_user_error(target):
            _replace(Path(target), lambda file: file.write(data))

    def write_table(self, relative: str, table: pa.Table) -> None:
        """Write an Arrow table with zstd, byte-split floats and page checksums."""
        target = self.path(relative)
        # BYTE_STREAM_SPLIT needs leaf paths: a float list is stored as ``column.list.element``.
        split = [leaf for field in table.schema for leaf in _float_leaves(field.name, field.type)]
        options: dict[str, Any] = {
            "compression": "zstd",
            "use_dictionary": _other_leaves(table.schema),
            "write_page_checksum": True,
        }
        if split:
            options["use_byte_stream_split"] = split
        if not self.local:
            with self.filesystem.open_output_stream(target) as stream:
                pq.write_table(table, stream, **options)
            return
        with _as_user_error(target):
            _replace(Path(target), lambda file: pq.write_table(table, file, **options))

    def files(self, run_id: str, table: str) -> list[str]:
        """List the finished files of a run's table, relative to the run, in order of name."""
        return [f"{table}/{name}" for name in self._names(f"runs/{run_id}/{table}", ".parquet")]

    def read(self, run_id: str, table: str) -> list[dict[str, Any]]:
        """Return all rows of a run's table; page checksums are verified.

        Raises:
            UserError: a file is damaged; the message names it.
        """
        rows: list[dict[str, Any]] = []
        for relative in self.files(run_id, table):
            found = self.read_file(f"runs/{run_id}/{relative}")
            rows += with_later_columns(found, TABLES[table]).to_pylist()
        return rows

    def read_file(self, relative: str) -> pa.Table:
        """Read one file below the root; every page checksum is verified."""
        try:
            with self.filesystem.open_input_file(self.path(relative)) as file:
                return pq.ParquetFile(file, page_checksum_verification=True).read()
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"damaged or unreadable: {error}",
                where=self.path(relative),
                fix="remove the file and run its cells again with `fleetqual run … --resume`",
            ) from error

    def runs(self) -> list[str]:
        """Return the run ids below the root, oldest first (ids begin with their UTC time)."""
        return self._names("runs", "")

    def parquet_files(self, folder: str) -> list[str]:
        """List the finished Parquet files directly in ``folder``, relative to the root."""
        return [f"{folder}/{name}" for name in self._names(folder, ".parquet")]

    def _names(self, folder: str, suffix: str) -> list[str]:
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        return sorted(
            info.base_name
            for info in self.filesystem.get_file_info(selector)
            if info.base_name.endswith(suffix) and not info.base_name.startswith(".")
        )


@contextmanager
def _as_user_error(target: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot be written: {error.strerror or error}",
            where=target,
            fix="give a results root that is a folder with room, writable by you",
        ) from error


def _replace(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, sync it to disk, and rename it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A unique name: a supervisor that was believed dead may be writing the same file.
    unfinished = f"{target}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    with open(unfinished, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, target)


def _other_leaves(schema: pa.Schema) -> list[str] | bool:
    """Columns for dictionary encoding: all that are not floats, which are byte-split instead."""
    names = [field.name for field in schema if not _float_leaves(field.name, field.type)]
    return names or False


def _float_leaves(path: str, kind: pa.DataType) -> list[str]:
    if pa.types.is_list(kind):
        return _float_leaves(f"{path}.list.element", kind.value_type)
    return [path] if pa.types.is_floating(kind) else []
