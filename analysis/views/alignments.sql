-- Every probe next to its truth, and how they compare.
--
-- outcome: match, mismatch, tie (chain only), noted (differs without meaning), numeric (judged by its
-- numbers), and what is never a match: missing, error, no_truth, not_observed.
WITH numbers AS (
    SELECT * FROM numeric_cases WHERE kind = 'reference'
),

all_rows AS (
    SELECT
        o.run_id, o.cell_id, o.node_id, o.attempt, o.judged, o.later, o.stage, o.probe, o.case_id,
        o.case_digest, o.tags, o.observed, o.repeat, o.truth, o.reference_id,
        coalesce(c.outcome, o.outcome) AS outcome,
        o.expected, o.seen, coalesce(c.detail, o.detail) AS detail,
        n.mean_kl AS effect, n.positions, n.flips AS mismatches, n.nonfinite,
        coalesce(n.mean_kl, 0) AS severity, c.symptom, NULL::VARCHAR AS explains,
        o.payload_digest, o.trace_row, o.truth_row
    FROM observations AS o
    LEFT JOIN numbers AS n USING (run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat)
    LEFT JOIN chain_compared AS c USING (run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat)
    UNION ALL BY NAME
    SELECT * FROM config_compared
    UNION ALL BY NAME
    SELECT * FROM weights_compared
    UNION ALL BY NAME
    SELECT * FROM instrument_compared
)

SELECT * FROM all_rows
