-- One row is a judged (cell, node) and a stage.
--
-- Every judged (cell, node) × stage, with what is known before any comparison.
WITH stars AS (
    SELECT
        run_id, cell_id, node_id, attempt, stage,
        any_value(observed) FILTER (WHERE observed NOT IN ('path', 'endpoint', 'reenacted')) AS star,
        any_value(error) FILTER (WHERE observed NOT IN ('path', 'endpoint', 'reenacted')) AS star_error,
        -- The engine shows the stage, but all of it failed.
        any_value(error) FILTER (WHERE observed IN ('path', 'endpoint', 'reenacted')) AS stage_failure
    FROM traces
    WHERE case_id = '*'
    GROUP BY ALL
),

planned AS (
    SELECT run_id, cell_id, node_id, stage, count(*) AS planned
    FROM staging.planned_probes
    GROUP BY ALL
)

SELECT
    p.run_id, p.cell_id, p.node_id, p.judged_attempt AS attempt, s.stage, s.ordinal, s.takes,
    list_contains(p.required, s.stage) AS is_required, t.star, t.star_error,
    coalesce(n.planned, 0) AS planned, u.why AS unasked,
    nullif(concat_ws('; ', t.stage_failure, p.lost_traces), '') AS lost_traces
FROM staging.pairs AS p
CROSS JOIN sources.stages AS s
LEFT JOIN stars AS t
    ON t.run_id = p.run_id AND t.cell_id = p.cell_id AND t.node_id = p.node_id
    AND t.attempt = p.judged_attempt AND t.stage = s.stage
LEFT JOIN planned AS n
    ON n.run_id = p.run_id AND n.cell_id = p.cell_id AND n.node_id = p.node_id AND n.stage = s.stage
LEFT JOIN staging.unasked AS u ON u.run_id = p.run_id AND u.suite = p.suite AND u.stage = s.stage
WHERE p.judged_attempt IS NOT NULL
