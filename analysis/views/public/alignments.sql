-- One row is a probe of a case in an attempt, next to its truth.
--
-- Every probe next to its truth, and how they compare.
--
-- outcome: match, mismatch, tie (chain only), noted (differs, no alarm), numeric (judged by its
-- numbers), and what is never a match: missing, error, no_truth, not_observed.
SELECT
    a.* REPLACE (coalesce(c.outcome, a.outcome) AS outcome, coalesce(c.detail, a.detail) AS detail),
    c.symptom
FROM compared.comparisons AS a
LEFT JOIN chain.compared AS c USING (run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat)
