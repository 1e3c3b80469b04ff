"""The sets of a reference root: what is there, and whether it is intact."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from runner.stored.frozen_tables import FloorRow, ReferenceRow, floor_id, reference_id
from runner.stored.references import frozen_table
from runner.stored.store import Store
from suites.errors import UserError

#: Each folder of a reference root: its rows, the name of their id, and the rule for that id.
KINDS: tuple[tuple[str, type[BaseModel], str, Callable[[Sequence[dict[str, Any]]], str]], ...] = (
    ("", ReferenceRow, "reference_id", reference_id),
    ("floors", FloorRow, "floor_id", floor_id),
)


def show(roots: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per frozen set: what, of which function, by which engine, when."""
    found: dict[str, dict[str, Any]] = {}
    columns = ("model", "variant", "suite", "engine", "engine_version", "compute_dtype", "created")
    for path, row in _rows(roots):
        entry = found.setdefault(
            row["reference_id"],
            {"reference_id": row["reference_id"], **{c: row[c] for c in columns}}
            | {"function_digest": row["function_digest"], "traces": 0, "file": path},
        )
        entry["traces"] += 1
    return list(found.values())


def verify(roots: Sequence[str]) -> list[str]:
    """Return what is wrong with references and floors; empty if nothing is.

    Every page's checksum is verified, and every id is computed again over its rows. Roots without
    any reference are a problem too: a missing reference was not found intact.
    """
    problems: list[str] = []
    references = 0
    for root in roots:
        store = Store(root)
        for folder, row, name, rule in KINDS:
            for path in store.parquet_files(folder):
                references += row is ReferenceRow
                problems += defects(store, path, row, name, rule)
    if not references:
        problems.append(f"no reference in {', '.join(roots) or 'no folder'}: nothing was verified")
    return problems


def defects(
    store: Store,
    path: str,
    row: type[BaseModel],
    name: str,
    rule: Callable[[Sequence[dict[str, Any]]], str],
) -> Iterator[str]:
    """Yield what is wrong with one file; the arguments are those of ``KINDS``."""
    where = store.path(path.lstrip("/"))
    try:
        rows = frozen_table(store, path, row).to_pylist()
    except UserError as error:
        yield str(error)
        return
    if not rows:
        yield f"{where}: holds no rows"
    for given in sorted({str(found[name]) for found in rows}):
        own = [found for found in rows if str(found[name]) == given]
        try:
            intact = rule(own) == given
        except (ValueError, TypeError):
            intact = False  # a null or a NaN where the rule allows none
        if not intact:
            yield f"{where}: the rows of {given} were changed"


def _rows(roots: Sequence[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    for root in roots:
        store = Store(root)
        for path in store.parquet_files(""):
            for row in frozen_table(store, path).to_pylist():
                yield store.path(path.lstrip("/")), row
