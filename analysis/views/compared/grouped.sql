-- One row is a judged comparison in one case group.
--
-- Judged comparisons by case group: `*` for all cases, and each tag. The chain's are finished in
-- `chain.grouped`.
WITH hits AS (
    SELECT
        run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat, any_value(reason) AS reason
    FROM compared.expected_hits
    WHERE hit
    GROUP BY ALL
)

SELECT
    a.*, h.reason AS expected_reason, a.outcome = 'mismatch' AND h.run_id IS NULL AS is_divergent,
    a.outcome = 'mismatch' AND h.run_id IS NOT NULL AS is_expected,
    a.outcome IN ('missing', 'error', 'no_truth')
    OR (a.outcome = 'not_observed' AND a.stage NOT IN ('config', 'weights', 'state', 'sampling', 'chain')) AS is_gap,
    unnest(list_concat(['*'], list_distinct(coalesce(a.tags, [])))) AS case_group
FROM compared.comparisons AS a
LEFT JOIN hits AS h USING (run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat)
WHERE a.judged
