-- Declared differences that no longer occur: their cases ran, were compared, and all agree now.
WITH numeric_now AS (
    SELECT run_id, cell_id, node_id, verdict FROM verdicts WHERE stage = 'logits' AND case_group = '*'
)

SELECT
    h.run_id, h.cell_id, h.node_id, h.entry, h.stage, any_value(h.reason) AS reason,
    count(DISTINCT h.case_id) AS cases, min(h.case_id) AS first_case
FROM expected_hits AS h
LEFT JOIN numeric_now AS n
    ON h.run_id = n.run_id AND h.cell_id = n.cell_id AND h.node_id = n.node_id
GROUP BY h.run_id, h.cell_id, h.node_id, h.entry, h.stage
HAVING
    bool_and(
        h.outcome IN ('match', 'tie', 'noted')
        OR coalesce(h.outcome = 'numeric' AND h.bound IS NOT NULL AND n.verdict = 'qualified', false)
    )
