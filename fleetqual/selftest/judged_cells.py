"""The cells of a self-test after judging, read from the catalog."""

from dataclasses import dataclass, field
from typing import Any

from analysis.judging.catalog import Catalog

Cost = dict[str, Any]
CaseKey = tuple[str, str, str]
"""(suite, stage, case)."""


@dataclass(frozen=True)
class JudgedCell:
    """One suite of one entry, after judging."""

    run_id: str
    cell_id: str
    suite: str
    variant: str
    engine: str
    pass_: str
    verdict: str
    culprit: str | None
    culprits: frozenset[str]
    confirmed: str
    explanation: str
    hits: dict[tuple[str, str], Cost]
    """(stage, case) that shows an unexpected difference by itself → seconds, tokens, detail."""
    error: str | None
    """Why it could not be judged."""
    sets: dict[str, frozenset[str]] = field(default_factory=dict)
    """Case of the chain → sets of hidden stages (joined by ``/``), one of them faulty."""


def cells_of(catalog: Catalog) -> list[JudgedCell]:
    """Return every planned cell of the judged runs, with the cases that show a difference."""
    hits: dict[str, dict[tuple[str, str], Cost]] = {}
    for row in catalog.rows(
        "SELECT cell_id, stage, case_id, seconds, tokens, detail FROM detections WHERE detected"
    ):
        cost = {name: row[name] for name in ("seconds", "tokens", "detail")}
        hits.setdefault(row["cell_id"], {})[row["stage"], row["case_id"]] = cost
    sets: dict[str, dict[str, frozenset[str]]] = {}
    for row in catalog.rows(
        "SELECT cell_id, case_id, list(DISTINCT array_to_string(suspects, '/')) AS sets "
        "FROM chain.symptom_sets WHERE placement = 'set' GROUP BY ALL"
    ):
        sets.setdefault(row["cell_id"], {})[row["case_id"]] = frozenset(row["sets"])
    failed = {
        row["cell_id"]: f"{row['status']}: {row['error']}"
        for row in catalog.rows("SELECT cell_id, status, error FROM attempts WHERE status <> 'ok'")
    }
    rows = catalog.rows(
        "SELECT p.run_id, p.cell_id, p.suite, p.variant, p.engine, p.pass, p.reason AS skipped, "
        "q.verdict, q.culprit, q.culprits, q.confirmed, q.explanation, "
        "v.verdict AS instrument FROM plan AS p "
        "LEFT JOIN qualification AS q USING (run_id, cell_id, node_id) "
        "LEFT JOIN verdicts AS v ON v.run_id = p.run_id AND v.cell_id = p.cell_id "
        "AND v.node_id = p.node_id AND v.stage = 'instrument' AND v.case_group = '*'"
    )
    return [
        _cell(
            row,
            hits.get(row["cell_id"], {}),
            sets.get(row["cell_id"], {}),
            failed.get(row["cell_id"]),
        )
        for row in rows
    ]


def _cell(
    row: dict[str, Any],
    hits: dict[tuple[str, str], Cost],
    sets: dict[str, frozenset[str]],
    failed: str | None,
) -> JudgedCell:
    verdict, culprit, culprits = row["verdict"] or "error", row["culprit"], row["culprits"] or ""
    if row["instrument"] == "divergent":
        # A broken instrument leaves the numeric stages inconclusive, so it is blamed itself.
        verdict, culprit = "divergent", culprit or "instrument"
    suspects = {stage for found in sets.values() for joined in found for stage in joined.split("/")}
    blamed = {part.strip() for part in culprits.split(",")} - suspects | {culprit}
    blamed |= {joined for found in sets.values() for joined in found}
    error = failed or row["skipped"]
    if error is None and verdict == "error":
        error = row["explanation"] or "no verdict"
    return JudgedCell(
        run_id=row["run_id"],
        cell_id=row["cell_id"],
        suite=row["suite"],
        variant=row["variant"],
        engine=row["engine"],
        pass_=row["pass"],
        verdict=verdict,
        culprit=culprit,
        culprits=frozenset(name for name in blamed if name),
        confirmed=row["confirmed"] or "not_applicable",
        explanation=row["explanation"] or "",
        hits=hits,
        sets=sets,
        error=error,
    )


def clean_costs(catalog: Catalog) -> dict[CaseKey, Cost]:
    """Return the seconds and tokens of each case on untouched cells."""
    rows = catalog.rows(
        "SELECT p.suite, d.stage, d.case_id, avg(d.seconds) AS seconds, max(d.tokens) AS tokens "
        "FROM detections AS d INNER JOIN plan AS p USING (run_id, cell_id, node_id) "
        "WHERE p.engine LIKE '%+clean-%' GROUP BY ALL"
    )
    return {
        (r["suite"], r["stage"], r["case_id"]): {"seconds": r["seconds"], "tokens": r["tokens"]}
        for r in rows
    }
