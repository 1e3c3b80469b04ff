"""Frozen references: where they are searched, how they are read, and the trace of one case."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from runner.stored.frozen_tables import FloorRow, ReferenceRow
from runner.stored.store import Store
from runner.stored.tables import arrow_schema
from suites.errors import UserError
from suites.loading import SHIPPED
from suites.suite import Case

#: Frozen sets that come with fleetqual.
SHIPPED_REFERENCES = SHIPPED / "references"

Key = tuple[str, str, str]


def reference_roots(results: str) -> tuple[str, ...]:
    """Return the reference folders of a results root, in the order in which they are searched."""
    return f"{results.rstrip('/')}/references", str(SHIPPED_REFERENCES)


class KeyedByWeights(UserError):
    """A file from before truth was found by the function: nobody knows which one it is of."""


def frozen_table(store: Store, path: str, row: type[BaseModel] = ReferenceRow) -> pa.Table:
    """Read one file of a reference root, with exactly the declared columns.

    Raises:
        KeyedByWeights: an earlier version wrote the file.
        UserError: the file is damaged, or holds other rows than ``row``.
    """
    table, schema = store.read_file(path), arrow_schema(row)
    missing = [name for name in schema.names if name not in table.column_names]
    kind = row.__name__.removesuffix("Row").lower()
    if missing == list(getattr(row, "ADDED_LATER", ())):
        command = "freeze" if row is ReferenceRow else "floors"
        raise KeyedByWeights(
            f"this {kind} file of an earlier version does not name the model's configuration, "
            "so it is not used",
            where=store.path(path.lstrip("/")),
            fix=f"make it again with `fleetqual reference {command} MATRIX`, then remove this file",
        )
    if missing:
        raise UserError(
            f"no {kind} file: column {missing[0]!r} is missing",
            where=store.path(path.lstrip("/")),
            fix="keep only what `fleetqual reference` wrote in a reference root",
        )
    try:
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        what = f"its columns hold something else: {error}"
        raise UserError(what, where=store.path(path.lstrip("/"))) from error


class References:
    """Reference traces of one function and tokenizer, by (case digest, stage, probe).

    The first root that has a trace wins, and within a root the newest: so does the judgement.
    """

    def __init__(self, roots: tuple[str, ...], function_digest: str, tokenizer_digest: str) -> None:
        self._rows: dict[Key, dict[str, Any]] = {}
        self.refused: str | None = None
        """Why a file was not used, and what to do; None if all were."""
        for root in roots:
            store, newest = Store(root), dict[Key, dict[str, Any]]()
            for path in store.parquet_files(""):
                try:
                    table = frozen_table(store, path)
                except KeyedByWeights as error:
                    self.refused = error.line
                    continue
                fits = pc.and_(
                    pc.equal(table["function_digest"], function_digest),
                    pc.equal(table["tokenizer_digest"], tokenizer_digest),
                )
                for row in table.filter(fits).to_pylist():
                    key = (row["case_digest"], row["stage"], row["probe"])
                    if key not in newest or newest[key]["created"] <= row["created"]:
                        newest[key] = row
            self._rows = newest | self._rows

    def find(self, case: Case, stage: str, probe: str) -> dict[str, Any]:
        """Return the frozen trace of a case's probe; empty when there is none."""
        return self._rows.get((case.digest, stage, probe), {})


def frozen_keys(roots: Sequence[str]) -> set[Key]:
    """Return (function digest, tokenizer digest, case digest) of everything that is frozen."""
    names, found = ("function_digest", "tokenizer_digest", "case_digest"), set[Key]()
    for root in roots:
        store = Store(root)
        for path in store.parquet_files(""):
            try:
                table = frozen_table(store, path)
            except KeyedByWeights:
                continue  # An earlier version wrote it: nothing can be found there.
            found |= set(zip(*(table[name].to_pylist() for name in names), strict=True))
    return found


def floor_keys(roots: Sequence[str]) -> set[Key]:
    """Return (function digest, compute dtype, backend) of every floor."""
    found = set[Key]()
    for root in roots:
        store = Store(root)
        for path in store.parquet_files("floors"):
            try:
                rows = frozen_table(store, path, FloorRow).to_pylist()
            except KeyedByWeights:
                continue
            found |= {
                (row["function_digest"], row["compute_dtype"].lower(), row["backend"])
                for row in rows
            }
    return found
