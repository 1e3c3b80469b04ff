-- One row is a (cell, node) whose later `ok` attempts disagree with the judged one.
--
-- Later `ok` attempts that say something else than the judged one, beyond the pass's margin.
WITH differing AS (
    SELECT b.run_id, b.cell_id, b.node_id, a.attempt, b.attempt AS other, b.stage, b.case_id
    FROM compared.comparisons AS a
    INNER JOIN compared.comparisons AS b USING (run_id, cell_id, node_id, stage, probe, case_id, repeat)
    LEFT JOIN numeric.cases AS n
        ON n.kind = 'later_attempt' AND n.trace_row = b.trace_row AND n.other_row = a.trace_row
    INNER JOIN staging.tries AS t
        ON t.run_id = b.run_id AND t.cell_id = b.cell_id AND t.node_id = b.node_id
        AND t.attempt = b.attempt
    WHERE a.judged AND b.later AND a.stage <> 'instrument'
        AND a.payload_digest IS NOT NULL AND b.payload_digest IS NOT NULL
        AND a.payload_digest <> b.payload_digest
        AND CASE
            WHEN a.stage = 'logits' THEN n.nonfinite > 0 OR coalesce(n.mean_kl > t.margin, true)
            ELSE a.seen IS DISTINCT FROM b.seen
        END
)

SELECT
    run_id, cell_id, node_id,
    format(
        'attempts {} and {} disagree: ', min(attempt), string_agg(DISTINCT other::VARCHAR, ', ' ORDER BY other::VARCHAR)
    )
    || string_agg(DISTINCT stage, ', ' ORDER BY stage) || format(' (first case {})', min(case_id)) AS reason
FROM differing
GROUP BY run_id, cell_id, node_id
