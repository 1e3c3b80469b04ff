"""A judged run in plain data: what table, JSON, JUnit and report are made of."""

from dataclasses import dataclass
from typing import Any

from analysis.judging.catalog import Catalog
from analysis.judging.gate import JUDGED
from suites.exit_codes import DIVERGED, QUALIFIED, UNJUDGED

ROWS = list[dict[str, Any]]

_ATTEMPTS = """
    SELECT
        p.suite, p.engine, p.variant, p.pass, a.cell_id, a.node_id, a.attempt, a.status,
        a.stage_reached, a.error, a.exit_code, a.signal, a.started, a.load_s, a.duration_s,
        a.peak_memory, a.engine_version, a.engine_build, a.compute_dtype, a.kv_dtype, a.hardware
    FROM attempts AS a
    LEFT JOIN staging.pairs AS p USING (run_id, cell_id, node_id)
    WHERE a.run_id = ?
    ORDER BY a.started, a.cell_id, a.node_id, a.attempt
"""
_PASSES = """
    SELECT
        u.entry, u.stage, u.reason, u.cases, u.first_case, u.cell_id, u.node_id, p.suite,
        p.engine, p.variant, p.pass
    FROM unexpected_passes AS u
    INNER JOIN staging.pairs AS p USING (run_id, cell_id, node_id)
    WHERE u.run_id = ?
    ORDER BY u.entry, u.cell_id, u.node_id
"""
_DECLARED = """
    SELECT
        v.cell_id, v.node_id, v.stage, v.case_group, v.verdict, d.reasons, d.outputs
    FROM verdicts AS v
    LEFT JOIN (
        SELECT
            cell_id, node_id, stage, list_distinct(list(expected_reason)) AS reasons,
            count(*) AS outputs
        FROM divergences
        WHERE is_expected AND run_id = ?
        GROUP BY ALL
    ) AS d USING (cell_id, node_id, stage)
    WHERE v.run_id = ? AND v.case_group = '*' AND (v.verdict = 'expected' OR d.outputs > 0)
"""
_SKIPS = """
    SELECT engine, variant, backend, pass, hardware, suite, model, reason
    FROM plan
    WHERE run_id = ? AND reason IS NOT NULL
    ORDER BY ALL
"""


@dataclass(frozen=True)
class Summary:
    """One judged run."""

    run_id: str
    qualification: ROWS
    verdicts: ROWS
    attempts: ROWS
    quarantined: ROWS
    unexpected_passes: ROWS
    skips: ROWS
    alarm_rates: ROWS
    """How often the numeric rule would call a benign configuration divergent, per floor."""
    declared: ROWS
    """Stages with differences that are declared: their reasons and the number of outputs."""

    @property
    def exit_code(self) -> int:
        """1 when anything diverged or passed unexpectedly, 3 when anything is unjudged, else 0."""
        verdicts = {row["verdict"] for row in self.qualification}
        if "divergent" in verdicts or self.unexpected_passes:
            return DIVERGED
        # `not_observed` is the timed pass, which promises no verdict.
        if not verdicts or verdicts - {"qualified", "not_observed"} or self.lost_evidence:
            return UNJUDGED
        return QUALIFIED

    @property
    def lost_evidence(self) -> ROWS:
        """Quarantined files, without broken judgements: those were made again from the evidence."""
        return [row for row in self.quarantined if row["table"] not in JUDGED]

    def of_cell(self, row: dict[str, Any], table: ROWS) -> ROWS:
        """Return the rows of ``table`` about the cell and node of ``row``."""
        keys = ("cell_id", "node_id")
        return [other for other in table if all(other[k] == row[k] for k in keys)]

    def declared_of(self, row: dict[str, Any]) -> int:
        """Return how many declared exceptions occurred in the cell and node of ``row``."""
        return count_reasons(self.of_cell(row, self.declared))


def declared_differences(catalog: Catalog, run_id: str) -> ROWS:
    """Return the stages of a run that have declared differences, by cell and node."""
    return catalog.rows(_DECLARED, [run_id, run_id])


def count_reasons(declared: ROWS) -> int:
    """Return how many declarations occurred in one cell: those with the same reason are one.

    A declared bound of ``logits`` lists no output, and counts as one; a chain that differs because
    of declared stages adds none.
    """
    reasons = {reason for row in declared for reason in row["reasons"] or ()}
    unlisted = {row["stage"] for row in declared if not row["reasons"]} - {"chain"}
    return len(reasons) + len(unlisted)


def summarise(catalog: Catalog, run_id: str) -> Summary:
    """Collect a judged run."""
    return Summary(
        run_id=run_id,
        qualification=catalog.rows("SELECT * FROM qualification WHERE run_id = ?", [run_id]),
        verdicts=catalog.rows(
            "SELECT v.* FROM verdicts AS v INNER JOIN sources.stages AS s USING (stage) "
            "WHERE run_id = ? ORDER BY v.cell_id, v.node_id, s.ordinal, v.case_group",
            [run_id],
        ),
        attempts=catalog.rows(_ATTEMPTS, [run_id]),
        quarantined=[
            {"run_id": q.run_id or run_id, "table": q.table, "file": q.file, "reason": q.reason}
            for q in catalog.quarantined
        ],
        unexpected_passes=catalog.rows(_PASSES, [run_id]),
        skips=catalog.rows(_SKIPS, [run_id]),
        alarm_rates=catalog.rows("SELECT * FROM alarm_rates WHERE run_id = ?", [run_id]),
        declared=declared_differences(catalog, run_id),
    )


def alarm_texts(rows: ROWS) -> list[str]:
    """Return the reference's alarm rates against itself, one sentence for each floor and margin."""
    by_floor: dict[tuple[Any, ...], ROWS] = {}
    for row in rows:
        by_floor.setdefault((row["pass"], row["margin"], row["floor_id"]), []).append(row)
    return [
        f"{pass_}, δ {margin:.3g}: "
        + ", ".join(
            f"{r['probe']} {r['alarms']} of {r['configurations']}"
            for r in sorted(own, key=lambda r: str(r["probe"]), reverse=True)
        )
        + " benign configurations alarm "
        + f"(upper 95 % bound {100 * max(r['upper'] for r in own):.1f} %), floor {floor}"
        for (pass_, margin, floor), own in sorted(by_floor.items())
    ]


def name_of(row: dict[str, Any]) -> str:
    """Return what people call a cell: suite/engine/variant/pass."""
    return f"{row['suite']}/{row['engine']}/{row['variant']}/{row['pass']}"


def scope_of(row: dict[str, Any], declared: int) -> str:
    """Return a verdict with its scope, such as ``qualified (8 of 11 stages)``.

    Args:
        row: a row of ``qualification``.
        declared: number of declared exceptions in its cell; a qualified cell always states it.
    """
    plural = "" if declared == 1 else "s"
    stated = declared and row["verdict"] == "qualified"
    more = f", {declared} declared exception{plural}" if stated else ""
    return f"{row['verdict']} ({row['observed_stages']} stages{more})"
