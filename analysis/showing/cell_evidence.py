"""What lies behind a cell's verdict, as plain data: the source of ``explain`` and of the report."""

import json
import shlex
from typing import Any

from analysis.judging.catalog import Catalog
from analysis.showing.output import as_json
from analysis.showing.stage_evidence import sentence, stage_evidence
from analysis.showing.summary import count_reasons, declared_differences, scope_of
from analysis.sql_functions.differences import parted

#: Where results are searched if nothing else is said.
DEFAULT_RESULTS = "results"
#: Differences told per stage when no case is asked for.
_PER_STAGE = 3
_POSITIONS = 3
#: Stages whose differences are told in words: both sides would say less.
TOLD_IN_WORDS = frozenset({"config", "weights", "state", "sampling"})
_TOP = 5

_DIFFERENCES = """
    SELECT
        d.stage, d.probe, d.case_id, d.kind, d.other, d.expected, d.seen, d.detail, d.effect,
        d.is_expected, d.expected_reason, d.payload_digest AS signature, a.symptom,
        c.input AS asked,
        -- No stored table knows the text of one token; what all of them decode to was recorded.
        CASE WHEN d.stage = 'tokenize' THEN TRY_CAST(t.value AS JSON) ->> '$.round_trip' END
            AS decodes_to
    FROM divergences AS d
    INNER JOIN sources.stages AS s USING (stage)
    LEFT JOIN cases AS c ON c.run_id = d.run_id AND c.suite = ? AND c.case_id = d.case_id
    LEFT JOIN alignments AS a
        ON a.judged AND a.run_id = d.run_id AND a.cell_id = d.cell_id AND a.node_id = d.node_id
        AND a.stage = d.stage AND a.probe = d.probe AND a.case_id = d.case_id
        AND a.repeat = d.repeat
        AND d.kind NOT IN ('between_nodes', 'later_attempt')
    LEFT JOIN traces AS t ON t.rowid = a.trace_row
    WHERE d.run_id = ? AND d.cell_id = ? AND d.node_id IS NOT DISTINCT FROM ?
    ORDER BY s.ordinal, d.is_expected, a.severity DESC NULLS LAST, d.case_id, d.probe
"""
_NUMBERS = """
    SELECT n.case_id, n.probe, n.positions, n.mean_kl, n.max_kl, n.flips, n.nonfinite
    FROM numeric.cases AS n
    INNER JOIN staging.tries AS t USING (run_id, cell_id, node_id, attempt)
    WHERE n.kind = 'reference' AND t.judged AND n.run_id = ? AND n.cell_id = ?
        AND n.node_id IS NOT DISTINCT FROM ?
    ORDER BY n.nonfinite DESC, n.mean_kl DESC NULLS FIRST, n.case_id, n.probe
"""
_WORST = """
    SELECT
        p.case_id, p.probe, p.position, p.kl, p.flip, p.nonfinite, p.margin,
        r.top_ids[p.position + 1] AS true_ids,
        r.ref_topk_logprobs[p.position + 1] AS true_logprobs,
        t.top_ids[p.position + 1] AS seen_ids,
        t.ref_topk_logprobs[p.position + 1] AS seen_logprobs
    FROM positions AS p
    INNER JOIN alignments AS a USING (trace_row)
    INNER JOIN traces AS t ON t.rowid = a.trace_row
    INNER JOIN sources.reference_traces AS r ON r.rowid = a.truth_row
    WHERE p.kind = 'reference' AND a.judged AND p.run_id = ? AND p.cell_id = ?
        AND p.node_id IS NOT DISTINCT FROM ? AND (p.case_id = ? OR ? IS NULL)
    ORDER BY p.nonfinite DESC, p.kl DESC NULLS LAST, p.case_id, p.probe, p.position
    LIMIT ?
"""
_OUTCOMES = """
    SELECT a.stage, a.case_id, a.probe, a.outcome, a.detail
    FROM alignments AS a
    INNER JOIN sources.stages AS s USING (stage)
    WHERE a.judged AND a.run_id = ? AND a.cell_id = ? AND a.node_id IS NOT DISTINCT FROM ?
        AND a.case_id = ? AND a.outcome NOT IN ('mismatch', 'numeric')
    ORDER BY s.ordinal, a.probe, a.repeat
"""
_KEPT = """
    SELECT a.attempt, a.status, t.stage, count(*) AS traces
    FROM attempts AS a
    INNER JOIN traces AS t USING (run_id, cell_id, node_id, attempt)
    INNER JOIN sources.stages AS s USING (stage)
    WHERE a.status <> 'ok' AND t.case_id <> '*' AND a.run_id = ? AND a.cell_id = ?
        AND a.node_id IS NOT DISTINCT FROM ?
    GROUP BY a.attempt, a.status, t.stage, s.ordinal
    ORDER BY a.attempt, s.ordinal
"""


def evidence_of(
    catalog: Catalog, cell: dict[str, Any], case: str | None = None, results: str = DEFAULT_RESULTS
) -> dict[str, Any]:
    """Return all there is to say about one (cell, node).

    Args:
        catalog: an open catalog with the run.
        cell: its row of ``qualification``.
        case: tell only of this case; the first few of each stage when None.
        results: the results root, for the commands that are shown.
    """
    keys = [cell["run_id"], cell["cell_id"], cell["node_id"]]
    verdicts = catalog.rows(
        "SELECT v.*, s.does FROM verdicts AS v INNER JOIN sources.stages AS s USING (stage) "
        "WHERE run_id = ? AND cell_id = ? AND node_id IS NOT DISTINCT FROM ? "
        "ORDER BY s.ordinal, v.case_group",
        keys,
    )
    differences, counts = [], dict[tuple[str, bool], int]()
    for row in catalog.rows(_DIFFERENCES, [cell["suite"], *keys]):
        shelf = (row["stage"], row["is_expected"])
        counts[shelf] = counts.get(shelf, 0) + 1
        if (row["case_id"] == case) if case else counts[shelf] <= _PER_STAGE:
            differences.append(_told(row, cell, results))
    numbers = [n for n in catalog.rows(_NUMBERS, keys) if case in (None, n["case_id"])]
    worst = catalog.rows(_WORST, [*keys, case, case, _POSITIONS])
    kept = catalog.rows(_KEPT, keys)
    stages = [v for v in verdicts if v["case_group"] == "*"]
    declared = [
        row
        for row in declared_differences(catalog, cell["run_id"])
        if (row["cell_id"], row["node_id"]) == (cell["cell_id"], cell["node_id"])
    ]
    found: dict[str, Any] = as_json(
        {
            "cell": cell,
            "sentence": sentence(cell, stages, declared),
            "scope": scope_of(cell, count_reasons(declared)),
            "brief": case is None,
            "command": command(matrix_of(catalog, cell["run_id"]), cell["cell_id"]),
            "stages": stages,
            "slices": [
                {k: v[k] for k in ("stage", "case_group", "verdict", "n", "mismatches", "effect")}
                for v in verdicts
                if v["case_group"] != "*" and v["verdict"] in ("divergent", "expected")
            ],
            "differences": differences,
            "not_told": {
                f"{stage}, {'declared' if declared else 'not declared'}": many - _PER_STAGE
                for (stage, declared), many in counts.items()
                if case is None and many > _PER_STAGE
            },
            # Of a case that was asked for also what is no difference: agreement, failure, absence.
            "outcomes": catalog.rows(_OUTCOMES, [*keys, case]) if case else [],
            "numbers": numbers[: 2 * _TOP],
            "worst_positions": [_position(row) for row in worst],
            **stage_evidence(catalog, cell, case),
            "kept_of_failed_attempts": kept,
        }
    )
    return found


def command(matrix: str, cell_id: str) -> str:
    """Return the command that runs one cell again."""
    return f"fleetqual run {shlex.quote(matrix)} --only {shlex.quote(f'cell={cell_id}')}"


def reproduce_command(cell: dict[str, Any], case: str, results: str) -> str:
    """Return the command that runs one case again, apart from all results, and compares it."""
    words = ["fleetqual", "explain", cell["cell_id"], "--case", case, "--reproduce"]
    words += ["--run", cell["run_id"]]
    words += [] if results == DEFAULT_RESULTS else ["--results", results]
    return shlex.join(words)


def matrix_of(catalog: Catalog, run_id: str) -> str:
    """Return the path of a run's matrix as the run stored it."""
    rows = catalog.rows("SELECT config FROM runs WHERE run_id = ?", [run_id])
    return str(json.loads(rows[0]["config"]).get("matrix_path", "MATRIX")) if rows else "MATRIX"


def _told(row: dict[str, Any], cell: dict[str, Any], results: str) -> dict[str, Any]:
    """Return one difference with both sides cut to where they part."""
    return {
        **row,
        "aspects": [a.as_dict() for a in parted(row["expected"], row["seen"])],
        "declaration": _declaration(row, cell),
        "command": reproduce_command(cell, row["case_id"], results),
    }


def _declaration(row: dict[str, Any], cell: dict[str, Any]) -> str | None:
    """Return the matrix line that declares this difference, to be pasted and given a reason."""
    if row["kind"] in ("between_nodes", "later_attempt", "self"):
        return None
    # The same engine may show more in process, so that a digest is that of one serving.
    served = "" if cell["serving"] == "in_process" else f"serving: {cell['serving']}, "
    head = f"- {{engine: {cell['engine']}, {served}stage: {row['stage']}, "
    if row["stage"] == "logits":
        bound = f"bound: {1.5 * (row['effect'] or 0):.2g}, "
        return f'{head}{bound}reason: "…"}}'
    case = json.dumps(row["case_id"])
    return f'{head}cases: [{case}], signature: "{row["signature"]}", reason: "…"}}'


def _position(row: dict[str, Any]) -> dict[str, Any]:
    """Return both top fives of one position as (id, log p) pairs; null p where none was kept."""
    true_ids, seen_at = list(row["true_ids"] or []), row["seen_logprobs"] or []
    true_at = row["true_logprobs"] or []
    there = dict(zip(true_ids, seen_at, strict=False))
    return {
        **{
            k: row[k] for k in ("case_id", "probe", "position", "kl", "flip", "nonfinite", "margin")
        },
        "expected": [[i, p] for i, p in zip(true_ids, true_at, strict=False)][:_TOP],
        "seen": [[i, there.get(i)] for i in (row["seen_ids"] or [])][:_TOP],
    }
