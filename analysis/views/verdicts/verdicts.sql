-- One row is a stage of a (cell, node) in one case group, of a run that is judged now.
--
-- Verdicts of the runs that are being judged now, one per (cell, node, stage, case group).
WITH judged AS (
    SELECT * FROM verdicts.isolates
    UNION ALL BY NAME
    SELECT * FROM verdicts.chain
),

failed AS (
    SELECT
        p.run_id, p.cell_id, p.node_id, unnest(p.required) AS stage, '*' AS case_group, 'error' AS verdict,
        wording.not_judged(p.failure) AS reason, p.failure AS explanation
    FROM staging.pairs AS p
    WHERE p.judged_attempt IS NULL
),

everything AS (
    SELECT * FROM judged
    UNION ALL BY NAME
    SELECT * FROM failed
)

SELECT
    p.run_id, p.cell_id, p.series_id, p.suite, p.model, p.variant, p.engine, p.engine_version,
    p.engine_build, p.serving, p.backend, p.pass, p.compute_dtype, p.kv_dtype, p.hardware, p.node_id,
    p.device_count, p.driver, p.attempt, e.stage, e.case_group, e.verdict, e.reason.text AS reason, e.observed, e.n,
    e.mismatches,
    e.effect,
    e.ci_low,
    e.ci_high,
    coalesce(e.margin, CASE WHEN e.stage IN ('instrument', 'state') THEN p.margin END) AS margin,
    e.p_value, e.first_case, e.explanation, e.reference_id, e.floor_id, r.rules_version
FROM everything AS e
INNER JOIN staging.pairs AS p
    ON p.run_id = e.run_id AND p.cell_id = e.cell_id AND p.node_id IS NOT DISTINCT FROM e.node_id
INNER JOIN sources.judging AS j ON j.run_id = p.run_id
INNER JOIN sources.stages AS s ON s.stage = e.stage
CROSS JOIN sources.rules AS r
ORDER BY p.run_id, p.suite, p.model, p.variant, p.engine, p.pass, p.cell_id, p.node_id, s.ordinal, e.case_group
