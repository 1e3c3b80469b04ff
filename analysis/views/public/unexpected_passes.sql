-- One row is a declared difference of a (cell, node) that did not occur.
--
-- Declared differences that no longer occur: their cases ran, were compared, and all agree now.
--
-- An entry with one signature per case declares each of them: a case that agrees is a pass of its own,
-- also while others of its entry still differ. Any other entry passes as a whole.
WITH numeric_now AS (
    SELECT run_id, cell_id, node_id, verdict FROM verdicts WHERE stage = 'logits' AND case_group = '*'
),

one_by_one AS (
    SELECT
        e.run_id, e.entry,
        coalesce(
            any_value(json_type(TRY_CAST(r.config AS JSON), format('$.expected[{}].signature', e.entry))) = 'OBJECT'
            OR any_value(json_type(TRY_CAST(r.config AS JSON), format('$.expected[{}].sampler', e.entry))) = 'OBJECT',
            false
        ) AS by_case
    FROM sources.expected_entries AS e
    LEFT JOIN runs AS r USING (run_id)
    GROUP BY ALL
),

now AS (
    SELECT
        h.*, CASE WHEN o.by_case THEN h.case_id END AS own_case,
        -- What agrees is looked up in the finished rows: only those know a tie.
        NOT h.hit AND NOT h.follows AND (
            a.outcome IN ('match', 'tie', 'noted')
            OR coalesce(a.outcome = 'numeric' AND h.bound IS NOT NULL AND n.verdict = 'qualified', false)
        ) AS agrees
    FROM compared.expected_hits AS h
    INNER JOIN one_by_one AS o USING (run_id, entry)
    INNER JOIN chain.alignments AS a USING (comparison_id)
    LEFT JOIN numeric_now AS n
        ON h.run_id = n.run_id AND h.cell_id = n.cell_id AND h.node_id = n.node_id
)

SELECT
    run_id, cell_id, node_id, entry, stage,
    any_value(reason) || coalesce(format(' ({})', own_case), '') AS reason,
    count(DISTINCT case_id) AS cases, min(case_id) AS first_case
FROM now
GROUP BY run_id, cell_id, node_id, entry, stage, own_case
HAVING bool_and(agrees)
