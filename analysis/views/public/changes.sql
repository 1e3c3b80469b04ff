-- One row is a stage of a cell on a node that changed against the previous run of its series.
--
-- What a run changed against the previous run of the same series on the same node.
WITH history AS (
    SELECT
        run_id, series_id, node_id, suite, model, variant, engine, backend, pass, hardware, stage,
        cell_id, verdict, effect, engine_version, engine_build, driver,
        lag(run_id) OVER previous AS previous_run_id,
        lag(cell_id) OVER previous AS previous_cell_id,
        lag(verdict) OVER previous AS previous_verdict,
        lag(effect) OVER previous AS previous_effect,
        lag(engine_version) OVER previous AS previous_engine_version,
        lag(engine_build) OVER previous AS previous_engine_build,
        lag(driver) OVER previous AS previous_driver
    FROM verdicts
    WHERE case_group = '*'
    WINDOW previous AS (PARTITION BY series_id, node_id, stage ORDER BY run_id)
)

SELECT *
FROM history
WHERE previous_run_id IS NOT NULL
    AND (
        verdict <> previous_verdict OR engine_version IS DISTINCT FROM previous_engine_version
        OR engine_build IS DISTINCT FROM previous_engine_build OR driver IS DISTINCT FROM previous_driver
    )
