-- One row is a committed attempt at a planned (cell, node).
--
-- Every committed attempt at a planned pair; `judged` marks the one whose evidence counts.
SELECT
    a.run_id, a.cell_id, a.node_id, a.attempt, a.status, p.margin,
    a.attempt IS NOT DISTINCT FROM p.judged_attempt AS judged,
    a.status = 'ok' AND a.attempt > p.judged_attempt AS later
FROM attempts AS a
INNER JOIN staging.pairs AS p USING (run_id, cell_id, node_id)
