"""The catalog: evidence and relations of some runs, materialised in an in-memory DuckDB.

Each file in ``views/`` is one relation of its own name; they are made in the order in which they
read each other.
"""

import graphlib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb

from analysis.functions import register
from analysis.gate import Evidence, Quarantined, inspect
from analysis.loading import load_declarations, load_evidence, load_references, run_configs
from runner.store import Store
from suites.errors import UserError

VIEWS = Path(__file__).parent / "views"
#: Relations with the rules themselves; everything else is made from evidence.
LAZY = "-- materialised: no"
_READS = re.compile(r"\b(?:FROM|JOIN)\s+([a-z_][a-z_0-9]*)")
_COMMENT = re.compile(r"--[^\n]*")


class Catalog:
    """An open catalog; close it, or use it in a ``with`` statement."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        evidence: Sequence[Evidence],
        quarantined: Sequence[Quarantined],
    ) -> None:
        self.con = con
        self.evidence = {e.run_id: e for e in evidence}
        self.quarantined = tuple(quarantined)

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Return a query's rows as dictionaries."""
        found: list[dict[str, Any]] = (
            self.con.sql(query, params=list(parameters)).to_arrow_table().to_pylist()
        )
        return found

    def close(self) -> None:
        """Free the database."""
        self.con.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_catalog(store: Store, run_ids: Sequence[str], judging: Iterable[str] = ()) -> Catalog:
    """Load runs and make every relation over them.

    Args:
        store: the results root.
        run_ids: the runs to load, each as far as it came.
        judging: those whose verdicts are computed now; the others show their stored judgement.
    """
    evidence = [inspect(store, run_id) for run_id in run_ids]
    chosen = [run_id for run_id in run_ids if run_id in set(judging)]
    con = duckdb.connect(":memory:")
    try:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET preserve_insertion_order = true")
        register(con)
        load_evidence(con, store, evidence, chosen)
        configs = run_configs(con, run_ids)
        quarantined = [q for e in evidence for q in e.quarantined]
        quarantined += load_references(con, store, configs)
        load_declarations(con, configs, quarantined)
        for name in relation_order():
            text = (VIEWS / f"{name}.sql").read_text(encoding="utf-8")
            kind = "VIEW" if text.startswith(LAZY) else "TABLE"
            con.execute(f'CREATE {kind} "{name}" AS {text}')
    except BaseException:
        con.close()
        raise
    return Catalog(con, evidence, quarantined)


@cache
def relation_order() -> tuple[str, ...]:
    """Return the names of the relations, each after those that it reads."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(VIEWS.glob("*.sql"))}
    reads = {
        name: {r for r in _READS.findall(_COMMENT.sub("", text)) if r in texts and r != name}
        for name, text in texts.items()
    }
    return tuple(graphlib.TopologicalSorter(reads).static_order())


def choose_run(store: Store, run_id: str | None) -> str:
    """Return the run that is meant: the latest for None, else that with this id or its beginning.

    Raises:
        UserError: there is no such run; the message lists those that are there.
    """
    known = store.runs()
    if not known:
        raise UserError(
            "there are no runs yet", where=store.root, fix="start one with `fleetqual run MATRIX`"
        )
    if run_id is None or run_id == "latest":
        return known[-1]
    matching = [run_id] if run_id in known else [k for k in known if k.startswith(run_id)]
    if len(matching) != 1:
        raise UserError(
            f"no run is called {run_id!r}" if not matching else f"{run_id!r} fits several runs",
            where=store.root,
            known=", ".join((matching or known)[-10:]),
        )
    return matching[0]
