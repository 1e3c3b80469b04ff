-- One row is a planned (cell, node).
--
-- One row per planned (cell, node): its identity, and the attempt that is judged.
--
-- The first `ok` attempt is judged, never a later one: retrying until green is not evidence. One whose
-- traces are lost is evidence of nothing, so an intact later one takes its place. Without an `ok`
-- attempt `judged_attempt` is null and `failure` says what happened instead.
WITH planned AS (
    SELECT * FROM plan WHERE reason IS NULL
    QUALIFY row_number() OVER (PARTITION BY run_id, cell_id, node_id ORDER BY rowid DESC) = 1
),

lost AS (
    SELECT
        run_id, cell_id, node_id, attempt,
        string_agg(file || ' is quarantined: ' || q.reason, '; ' ORDER BY file) AS lost_traces
    FROM (SELECT run_id, cell_id, node_id, attempt, unnest(files) AS file FROM attempts)
    INNER JOIN sources.quarantined AS q USING (run_id, file)
    WHERE q.table_name = 'traces'
    GROUP BY ALL
),

ranked AS (
    SELECT
        a.*, l.lost_traces,
        row_number() OVER (
            PARTITION BY a.run_id, a.cell_id, a.node_id
            ORDER BY
                (a.status = 'ok') DESC, a.status = 'ok' AND l.lost_traces IS NOT NULL,
                CASE WHEN a.status = 'ok' THEN a.attempt ELSE -a.attempt END, a.rowid
        ) AS preference
    FROM attempts AS a
    LEFT JOIN lost AS l USING (run_id, cell_id, node_id, attempt)
),

lost_attempts AS (
    SELECT run_id, string_agg(file || ': ' || reason, '; ' ORDER BY file) AS quarantined_attempts
    FROM sources.quarantined
    WHERE table_name = 'attempts'
    GROUP BY run_id
),

drivers AS (
    SELECT run_id, node_id, max_by(driver, rowid) AS driver FROM nodes GROUP BY run_id, node_id
)

SELECT
    p.run_id, p.cell_id, p.series_id, p.suite, p.model, p.variant, p.engine,
    a.engine_version, a.engine_build, p.serving, p.backend, p.pass, a.compute_dtype, a.kv_dtype,
    coalesce(a.hardware, p.hardware) AS hardware,
    coalesce(p.node_id, a.node_id) AS node_id,
    a.device_count, d.driver, a.attempt,
    p.engine_kind,
    coalesce(p.margin, CASE WHEN p.pass = 'structure' THEN r.structure_margin END) AS margin,
    p.required,
    p.weights_digest,
    -- Plans of earlier versions have no function: their weights are the key (`staging.truth_keys`).
    coalesce(p.function_digest, p.weights_digest) AS function_digest,
    p.tokenizer_digest,
    p.model_weights_digest,
    CASE WHEN a.status = 'ok' THEN a.attempt END AS judged_attempt,
    a.lost_traces,
    CASE
        WHEN a.attempt IS NULL
            THEN 'no attempt was recorded'
                || coalesce(' (a quarantined file may hold it: ' || f.quarantined_attempts || ')', '')
        WHEN a.status <> 'ok'
            THEN format('attempt {}: {}', a.attempt, a.status)
                || coalesce(' (' || a.signal || ')', '')
                || coalesce(' at stage ' || a.stage_reached, '') || coalesce(': ' || a.error, '')
    END AS failure
FROM planned AS p
CROSS JOIN sources.rules AS r
LEFT JOIN ranked AS a
    ON p.run_id = a.run_id AND p.cell_id = a.cell_id AND a.preference = 1
    AND (p.node_id = a.node_id OR p.node_id IS NULL)
LEFT JOIN lost_attempts AS f ON p.run_id = f.run_id
LEFT JOIN drivers AS d ON p.run_id = d.run_id AND coalesce(p.node_id, a.node_id) = d.node_id
