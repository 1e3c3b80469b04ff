"""Judging a run: the relations' verdicts, written beside the evidence with what judged them."""

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.judging.catalog import Catalog, open_catalog
from analysis.judging.gate import JUDGED, Evidence, inspect
from analysis.judging.loading import reference_state, searched_roots
from runner.stored.store import Store
from runner.stored.tables import arrow_schema
from suites.digest import tagged_digest, tree_digest
from suites.errors import UserError

ANALYSIS = Path(__file__).parents[1]
#: The folders whose code decides verdicts. What only shows them may change without judging again.
JUDGING_CODE = ("judging", "sql_functions", "views")
_STATE = b"fleetqual.state"
_RULES = b"fleetqual.rules"


def append_judgement(store: Store, catalog: Catalog, run_id: str) -> str:
    """Write the fresh verdicts that a catalog computed for a run; return the judgement's id.

    Judging again appends: earlier judgements stay readable.
    """
    (rules,) = catalog.rows("SELECT rules_version FROM sources.rules")
    version = rules["rules_version"]
    judgement = f"{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}-{version}"
    about = {
        _STATE: _state(store, catalog.evidence[run_id]).encode(),
        _RULES: version.encode(),
    }
    for table, row in JUDGED.items():
        schema = arrow_schema(row)
        found = catalog.table(f"SELECT * FROM verdicts.{table} WHERE run_id = ?", [run_id])
        typed = found.select(schema.names).cast(schema).replace_schema_metadata(about)
        store.write_table(f"runs/{run_id}/{table}/{judgement}.parquet", typed)
    return judgement


def open_judged(store: Store, run_id: str) -> Catalog:
    """Open a run's catalog; judge it first unless its newest judgement still holds."""
    catalog, judged = open_current(store, [run_id])
    try:
        for fresh in judged:
            append_judgement(store, catalog, fresh)
    except BaseException:
        catalog.close()
        raise
    return catalog


def open_current(
    store: Store, run_ids: Sequence[str], *, memory_limit: str | None = None
) -> tuple[Catalog, list[str]]:
    """Open runs with verdicts that hold; return also those that were judged for it just now."""
    before = {run_id: inspect(store, run_id) for run_id in run_ids}
    judging = [run_id for run_id in run_ids if not holds(store, before[run_id])]
    catalog = open_catalog(store, run_ids, judging, memory_limit=memory_limit)
    # A broken judgement is named only by the look that finds it.
    looks = [*before.values(), *catalog.evidence.values()]
    named = [q for look in looks for q in look.quarantined if q.table in JUDGED]
    # Reading may have found damage that the gate's ledger hid; then the stored judgement is stale.
    stale = [r for r in run_ids if r not in judging and catalog.evidence[r] != before[r]]
    if stale:
        catalog.close()
        judging += stale
        catalog = open_catalog(store, run_ids, judging, memory_limit=memory_limit)
    catalog.quarantined = tuple(dict.fromkeys([*catalog.quarantined, *named]))
    return catalog, judging


def holds(store: Store, evidence: Evidence) -> bool:
    """Whether the newest judgement still speaks of this evidence, these references, these rules."""
    newest = {max(evidence.files[table], default="").split("/")[-1] for table in JUDGED}
    if "" in newest or len(newest) != 1:
        return False
    path = store.path(f"runs/{evidence.run_id}/verdicts/{newest.pop()}")
    try:
        with store.filesystem.open_input_file(path) as file:
            about = pq.ParquetFile(file).schema_arrow.metadata or {}
        return bool(about.get(_STATE) == _state(store, evidence).encode())
    except (UserError, OSError, pa.ArrowException):
        # It rotted behind the ledger's back; whoever opens the run looks again.
        return False


def _state(store: Store, evidence: Evidence) -> str:
    """Digest all that a judgement depends on."""
    rows = [
        row
        for file in evidence.files["runs"]
        for row in store.read_file(f"runs/{evidence.run_id}/{file}").to_pylist()
    ]
    roots = {root for row in rows for root in searched_roots(store, json.loads(row["config"]))}
    frozen = [[root, reference_state(root)] for root in sorted(roots)]
    code = [
        tree_digest(ANALYSIS / folder, pattern)
        for folder in JUDGING_CODE
        for pattern in ("*.sql", "*.py")
    ]
    return tagged_digest("g3", [evidence.fingerprint, code, frozen])
