-- One row is a probe of a case that differs: from its truth, between attempts, or between nodes.
--
-- Every difference found: against the truth, against a later attempt, and of one cell between nodes.
WITH against_truth AS (
    SELECT
        a.run_id, a.cell_id, a.node_id, a.attempt, a.stage, a.probe, a.case_id, a.repeat, a.tags, a.truth AS kind,
        NULL::VARCHAR AS other, a.expected, a.seen, a.detail, a.effect,
        h.comparison_id IS NOT NULL AS is_expected, h.reason AS expected_reason, a.payload_digest
    FROM chain.alignments AS a
    LEFT JOIN compared.hits AS h USING (comparison_id)
    INNER JOIN staging.tries AS t USING (run_id, cell_id, node_id, attempt)
    WHERE a.judged
        AND (a.outcome = 'mismatch' OR a.outcome = 'numeric' AND (a.nonfinite > 0 OR a.effect > t.margin))
),

against_attempts AS (
    SELECT
        b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id, b.repeat, b.tags,
        'later_attempt' AS kind, a.attempt::VARCHAR AS other, a.seen AS expected, b.seen,
        format('attempt {} differs from attempt {}', b.attempt, a.attempt) AS detail,
        n.mean_kl AS effect, false AS is_expected, b.payload_digest
    FROM chain.alignments AS a
    INNER JOIN chain.alignments AS b USING (run_id, cell_id, node_id, stage, probe, case_id, repeat)
    LEFT JOIN numeric.cases AS n
        ON n.kind = 'later_attempt' AND n.trace_row = b.trace_row AND n.other_row = a.trace_row
    WHERE a.judged AND b.later AND a.payload_digest <> b.payload_digest
),

between_nodes AS (
    SELECT
        b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id, b.repeat, b.tags,
        'between_nodes' AS kind, a.node_id AS other, a.seen AS expected, b.seen,
        format('{} and {} give different payloads', a.node_id, b.node_id) AS detail,
        n.mean_kl AS effect, false AS is_expected, b.payload_digest
    FROM chain.alignments AS a
    INNER JOIN chain.alignments AS b USING (run_id, cell_id, stage, probe, case_id, repeat)
    LEFT JOIN numeric.cases AS n
        ON n.kind = 'between_nodes' AND n.trace_row = b.trace_row AND n.other_row = a.trace_row
    WHERE a.judged AND b.judged AND a.node_id < b.node_id AND a.payload_digest <> b.payload_digest
)

SELECT * FROM against_truth
UNION ALL BY NAME
SELECT * FROM against_attempts
UNION ALL BY NAME
SELECT * FROM between_nodes
