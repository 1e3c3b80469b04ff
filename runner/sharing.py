"""References and floors copied from one reference root to another, by what they hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from runner.frozen_sets import KINDS, defects
from runner.stored.references import KeyedByWeights, frozen_table
from runner.stored.store import Store
from suites.errors import UserError


@dataclass(frozen=True)
class Copied:
    """One file of a reference root, and what was done with it."""

    path: str
    """Path in the target root."""
    done: str
    """copied, replaced, there already, newer there, or why it is left out."""

    @property
    def is_new(self) -> bool:
        """Whether the target was changed."""
        return self.done in ("copied", "replaced")


@dataclass(frozen=True)
class _Set:
    ids: frozenset[str]
    created: Any
    table: pa.Table


def share(source: str, target: str) -> list[Copied]:
    """Copy what ``target`` lacks; both are folders or URIs of pyarrow.fs.

    Every file is verified before anything is written, and each is read back after it was written.
    A set that is there already is known by its ids. Where both roots have another set of one
    identity, the newer one is kept. A file appears whole or not at all, so a copy that was broken
    off is simply repeated.

    Raises:
        UserError: the source has nothing, or holds a damaged or changed file; nothing is copied.
            Or the target cannot be written.
    """
    here, there = Store(source), Store(target)
    found = list(_sets(here))
    if not found:
        raise UserError(
            "no reference and no floor to copy",
            where=source,
            fix="`fleetqual reference freeze MATRIX` makes references",
        )
    done = []
    for name, kind, held in found:
        path = there.path(name)
        if held is None:
            done.append(Copied(path, "left out: an earlier version wrote it"))
            continue
        before = _read(there, name, kind) if _exists(there, name) else None
        if before is not None and before.ids == held.ids:
            done.append(Copied(path, "there already"))
        elif before is not None and before.created >= held.created:
            done.append(Copied(path, "newer there"))
        else:
            there.write_table(name, held.table)
            _verified(there, name, kind)
            done.append(Copied(path, "copied" if before is None else "replaced"))
    return done


_Kind = tuple[Any, str, Any]


def _sets(store: Store) -> Iterator[tuple[str, _Kind, _Set | None]]:
    for folder, row, name, rule in KINDS:
        for path in store.parquet_files(folder):
            relative, kind = path.lstrip("/"), (row, name, rule)
            try:
                frozen_table(store, relative, row)
            except KeyedByWeights:
                yield relative, kind, None
                continue
            _verified(store, relative, kind)
            yield relative, kind, _read(store, relative, kind)


def _verified(store: Store, path: str, kind: _Kind) -> None:
    row, name, rule = kind
    problem = next(iter(defects(store, path, row, name, rule)), None)
    if problem is not None:
        raise UserError(problem, fix="remove or repair this file: nothing that is wrong is copied")


def _read(store: Store, path: str, kind: _Kind) -> _Set:
    row, name, _ = kind
    table = frozen_table(store, path, row)
    created = max(table["created"].to_pylist(), default=None)
    return _Set(frozenset(table[name].to_pylist()), created, table)


def _exists(store: Store, path: str) -> bool:
    folder, _, _ = path.rpartition("/")
    return path in {found.lstrip("/") for found in store.parquet_files(folder)}
