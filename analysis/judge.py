"""Judging a run: the relations' verdicts, written beside the evidence with what judged them."""

import datetime as dt
import json

import pyarrow.parquet as pq

from analysis.catalog import VIEWS, Catalog, open_catalog
from analysis.gate import JUDGED, Evidence, inspect
from analysis.loading import reference_roots, reference_state
from runner.store import Store
from runner.tables import arrow_schema
from suites.digest import tagged_digest, tree_digest

_STATE = b"fleetqual.state"
_RULES = b"fleetqual.rules"


def judge(results: str, run_id: str) -> str:
    """Compute a run's verdicts and append them; return the judgement's id.

    Judging again appends: what was said before stays readable.
    """
    store = Store(results)
    with open_catalog(store, [run_id], judging=[run_id]) as catalog:
        return append_judgement(store, catalog, run_id)


def append_judgement(store: Store, catalog: Catalog, run_id: str) -> str:
    """Write the fresh verdicts that a catalog computed for a run."""
    (rules,) = catalog.rows("SELECT rules_version FROM rules")
    version = rules["rules_version"]
    judgement = f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}-{version}"
    about = {
        _STATE: _state(store, catalog.evidence[run_id]).encode(),
        _RULES: version.encode(),
    }
    for table, row in JUDGED.items():
        schema = arrow_schema(row)
        query = f"SELECT * FROM fresh_{table} WHERE run_id = ?"
        found = catalog.con.sql(query, params=[run_id]).to_arrow_table()
        typed = found.select(schema.names).cast(schema).replace_schema_metadata(about)
        store.write_table(f"runs/{run_id}/{table}/{judgement}.parquet", typed)
    return judgement


def open_judged(store: Store, run_id: str) -> Catalog:
    """Open a run's catalog; judge it first unless its newest judgement still holds."""
    if holds(store, inspect(store, run_id)):
        return open_catalog(store, [run_id])
    catalog = open_catalog(store, [run_id], judging=[run_id])
    try:
        append_judgement(store, catalog, run_id)
    except BaseException:
        catalog.close()
        raise
    return catalog


def holds(store: Store, evidence: Evidence) -> bool:
    """Whether the newest judgement still speaks of this evidence, these references, these rules."""
    newest = {max(evidence.files[table], default="").split("/")[-1] for table in JUDGED}
    if "" in newest or len(newest) != 1:
        return False
    path = store.path(f"runs/{evidence.run_id}/verdicts/{newest.pop()}")
    with store.filesystem.open_input_file(path) as file:
        about = pq.ParquetFile(file).schema_arrow.metadata or {}
    return bool(about.get(_STATE) == _state(store, evidence).encode())


def _state(store: Store, evidence: Evidence) -> str:
    """Digest all that a judgement depends on."""
    rows = [
        row
        for file in evidence.files["runs"]
        for row in store.read_file(f"runs/{evidence.run_id}/{file}").to_pylist()
    ]
    roots = {root for row in rows for root in reference_roots(store, json.loads(row["config"]))}
    frozen = [[root, reference_state(root)] for root in sorted(roots)]
    return tagged_digest("g1", [evidence.fingerprint, tree_digest(VIEWS, "*.sql"), frozen])
