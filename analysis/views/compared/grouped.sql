-- One row is a judged comparison in one case group.
--
-- Judged comparisons by case group: `*` for all cases, and each tag. The chain's are finished in
-- `chain.grouped`.
SELECT
    a.*, h.reason AS expected_reason, a.outcome = 'mismatch' AND h.comparison_id IS NULL AS is_divergent,
    a.outcome = 'mismatch' AND h.comparison_id IS NOT NULL AS is_expected,
    a.outcome IN ('missing', 'error', 'no_truth')
    OR (a.outcome = 'not_observed' AND a.stage NOT IN ('config', 'weights', 'state', 'sampling', 'chain')) AS is_gap,
    unnest(list_concat(['*'], list_distinct(coalesce(a.tags, [])))) AS case_group
FROM compared.comparisons AS a
LEFT JOIN compared.hits AS h USING (comparison_id)
WHERE a.judged
