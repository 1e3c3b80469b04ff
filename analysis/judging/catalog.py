"""The catalog: evidence and relations of some runs, materialised in an in-memory DuckDB.

Evidence is loaded when a catalog is opened; a relation is built when a query first reads it.
"""

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from analysis.judging.gate import Evidence, Quarantined, Rotten, inspect
from analysis.judging.loading import load_declarations, load_evidence, load_references, run_configs
from analysis.judging.relations import Relations
from analysis.sql_functions.registered import register
from runner.stored.store import Store
from suites.errors import UserError


class Catalog:
    """An open catalog; close it, or use it in a ``with`` statement."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        evidence: Sequence[Evidence],
        quarantined: Sequence[Quarantined],
    ) -> None:
        self.con = con
        self.relations = Relations(con)
        self.evidence = {e.run_id: e for e in evidence}
        self.quarantined = tuple(quarantined)

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[dict[str, Any]]:
        """Return a query's rows as dictionaries; what the query reads is built first."""
        found: list[dict[str, Any]] = self.table(query, parameters).to_pylist()
        return found

    def table(self, query: str, parameters: Sequence[object] = ()) -> pa.Table:
        """Return a query's rows as an Arrow table; what the query reads is built first."""
        self.relations.build_for(query)
        return self.con.sql(query, params=list(parameters)).to_arrow_table()

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


def open_catalog(
    store: Store,
    run_ids: Sequence[str],
    judging: Iterable[str] = (),
    *,
    memory_limit: str | None = None,
) -> Catalog:
    """Load the evidence of runs; relations over it are built when they are asked for.

    Args:
        store: the results root.
        run_ids: the runs to load, each as far as it came.
        judging: those whose verdicts are computed now; the others show their stored judgement.
        memory_limit: most that the database may take, such as ``2GB``; its own default when None.

    Raises:
        UserError: a file reads well and badly by turns.
    """
    chosen = [run_id for run_id in run_ids if run_id in set(judging)]
    distrusted: dict[str, set[str]] = {}
    while True:
        evidence = [inspect(store, run_id, distrusted.get(run_id, ())) for run_id in run_ids]
        try:
            return _filled(store, evidence, chosen, memory_limit)
        except Rotten as rotten:
            # The gate looks again, sets the file aside, and the rest is analysed without it.
            known = distrusted.setdefault(rotten.run_id, set())
            if rotten.file in known:
                raise UserError(
                    f"reads well and badly by turns: {rotten.__cause__}",
                    where=store.path(f"runs/{rotten.run_id}/{rotten.file}"),
                    fix="look after the disk or the network that holds the results",
                ) from rotten
            known.add(rotten.file)


def _filled(
    store: Store, evidence: Sequence[Evidence], chosen: Sequence[str], memory_limit: str | None
) -> Catalog:
    # No temporary files: they would appear in the working folder.
    config: dict[str, Any] = {"temp_directory": ""}
    if memory_limit is not None:
        config["memory_limit"] = memory_limit
    con = duckdb.connect(":memory:", config=config)
    try:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET enable_progress_bar = false")
        con.execute("SET preserve_insertion_order = true")
        register(con)
        load_evidence(con, store, evidence, chosen)
        configs = run_configs(con, [e.run_id for e in evidence])
        quarantined = [q for e in evidence for q in e.quarantined]
        quarantined += load_references(con, store, configs)
        load_declarations(con, configs, quarantined)
    except BaseException:
        con.close()
        raise
    return Catalog(con, evidence, quarantined)


@dataclass(frozen=True)
class _About:
    run_id: str
    started: dt.datetime
    whole: bool
    """It finished and was not narrowed."""


def _about(store: Store, run_id: str) -> _About:
    """Read when a run began and whether it is whole; its name must do where nothing is readable."""
    started, whole = _time_in(run_id), False
    for file in store.files(run_id, "runs"):
        try:
            rows = store.read_file(f"runs/{run_id}/{file}").to_pylist()
            for row in rows:
                started = row["started"].replace(tzinfo=row["started"].tzinfo or dt.UTC)
                narrowed = json.loads(row["config"]).get("only") is not None
                whole = whole or (row["finished"] is not None and not narrowed)
        except (UserError, KeyError, ValueError, AttributeError):
            continue
    return _About(run_id, started, whole)


def _time_in(run_id: str) -> dt.datetime:
    try:
        return dt.datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=dt.UTC)
    except ValueError:
        return dt.datetime.min.replace(tzinfo=dt.UTC)


def choose_run(store: Store, run_id: str | None) -> str:
    """Return the run that is meant: one with this id or its beginning, else the one to look at.

    That is the latest which finished and was not narrowed by ``--only``, since a cell run again to
    look closer says nothing about the fleet; without such a run it is the latest of all.

    Raises:
        UserError: there is no such run; the message lists those that are there.
    """
    known = store.runs()
    if not known:
        raise UserError(
            "there are no runs yet", where=store.root, fix="start one with `fleetqual run MATRIX`"
        )
    if run_id is None or run_id == "latest":
        found = [_about(store, name) for name in known]
        return max(
            [a for a in found if a.whole] or found, key=lambda a: (a.started, a.run_id)
        ).run_id
    matching = [run_id] if run_id in known else [k for k in known if k.startswith(run_id)]
    if len(matching) != 1:
        raise UserError(
            f"no run is called {run_id!r}" if not matching else f"{run_id!r} fits several runs",
            where=store.root,
            known=", ".join((matching or known)[-10:]),
        )
    return matching[0]
