"""Floors: how far benign configurations of the reference engine lie from its own reference."""

import datetime as dt
import json

from analysis.judging.catalog import choose_run, open_catalog
from runner.stored.frozen_tables import FloorRow, floor_id
from runner.stored.store import Store
from suites.errors import UserError

_GROUP = (
    *("function_digest", "weights_digest", "tokenizer_digest"),
    *("suite", "compute_dtype", "backend", "engine"),
)


def floor_rows(results: str, run_id: str | None = None) -> list[FloorRow]:
    """Return one row per benign configuration and probe of a run.

    They are measured by the same relations as verdicts. Each judged cell is one configuration,
    named by its matrix entry and the options that its probes set. Cells that share function,
    compute dtype, backend, suite and engine make one floor.

    Raises:
        UserError: a configuration gave NaN, or the run holds nothing numeric.
    """
    store = Store(results)
    chosen = choose_run(store, run_id)
    with open_catalog(store, [chosen]) as catalog:
        found = catalog.rows(
            "SELECT * FROM numeric.floor_candidates ORDER BY cell_id, node_id, probe"
        )
        (config,) = catalog.rows("SELECT config FROM runs")
    engines = json.loads(config["config"]).get("matrix", {}).get("engines", [])
    options = {entry["name"]: entry["options"] for entry in engines if entry.get("name")}
    if not found:
        raise UserError(
            "no cell of this run has logits with a reference beside them",
            where=f"{store.root}: run {chosen}",
            fix="freeze a reference first, then run benign configurations of its engine",
        )
    groups: dict[tuple[str, ...], list[FloorRow]] = {}
    now = dt.datetime.now(dt.UTC)
    for row in found:
        if row["nonfinite"]:
            raise UserError(
                f"{row['nonfinite']} positions are NaN or infinite: that is not benign",
                where=f"{row['entry']} ({row['cell_id']})",
            )
        configuration = {
            "entry": row["entry"],
            "cell_id": row["cell_id"],
            "node_id": row["node_id"],
            "options": options.get(row["entry"], {}) | json.loads(row["probe_overrides"] or "{}"),
        }
        made = FloorRow(
            floor_id="",
            **{name: row[name] for name in (*_GROUP, "engine_version", "probe")},
            configuration=json.dumps(configuration, sort_keys=True),
            **{name: row[name] for name in ("mean_kl", "max_kl", "positions", "flips")},
            max_flip_margin=row["max_flip_margin"],
            created=now,
        )
        groups.setdefault(tuple(row[name] for name in _GROUP), []).append(made)
    return [row for rows in groups.values() for row in _named(rows)]


def _named(rows: list[FloorRow]) -> list[FloorRow]:
    named = floor_id([row.model_dump() for row in rows])
    return [row.model_copy(update={"floor_id": named}) for row in rows]
