-- One row is a tensor of an attempt's artifact, next to the model's.
--
-- Tensors of the artifact against the model's: exact after the cast for plain numbers, and where the model itself was
-- taken from a GGUF with this type; within what the quantisation costs otherwise (`sources.quantisations`). A missing,
-- extra, misshapen or non-finite tensor is never excused.
WITH stated AS (
    SELECT
        t.run_id, t.cell_id, t.node_id, t.attempt, a.judged, a.later, t.probe, t.case_id, t.case_digest,
        t.tags, t.observed, t.repeat, t.payload_digest, t.error, t.rowid AS trace_row,
        substr(t.case_id, 9) AS tensor,
        upper(TRY_CAST(t.value AS JSON) ->> '$.type') AS type,
        (TRY_CAST(t.value AS JSON) ->> '$.seen_shape') AS seen_shape,
        (TRY_CAST(t.value AS JSON) ->> '$.model_shape') AS model_shape,
        coalesce((TRY_CAST(t.value AS JSON) ->> '$.nonfinite')::BIGINT, 0) AS nonfinite,
        (TRY_CAST(t.value AS JSON) ->> '$.mismatched')::BIGINT AS mismatched,
        (TRY_CAST(t.value AS JSON) ->> '$.relative_rmse')::DOUBLE AS relative_rmse,
        (TRY_CAST(t.value AS JSON) ->> '$.scale')::DOUBLE AS scale,
        (TRY_CAST(t.value AS JSON) ->> '$.max_abs')::DOUBLE AS max_abs,
        list_product(TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.seen_shape' AS DOUBLE[])) AS n_values
    FROM traces AS t
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id, attempt)
    WHERE t.stage = 'weights' AND starts_with(t.case_id, 'weights/')
),

bounded AS (
    SELECT
        s.*, q.max_relative_rmse,
        s.type IN ('F32', 'F16', 'BF16', 'F64', 'I64', 'I32', 'I16', 'I8', 'U8', 'BOOL') AS is_plain,
        r.scale_slack + q.max_relative_rmse ^ 2
        + 4 * q.max_relative_rmse / sqrt(greatest(s.n_values, 1)) AS max_scale_error
    FROM stated AS s
    CROSS JOIN sources.rules AS r
    LEFT JOIN sources.quantisations AS q ON s.type = q.type
),

judged AS (
    SELECT
        *,
        CASE
            WHEN error IS NOT NULL OR observed NOT IN ('path', 'endpoint', 'reenacted') THEN NULL
            WHEN seen_shape IS NULL AND model_shape IS NULL THEN NULL
            WHEN seen_shape IS NULL THEN 'is not in the artifact'
            WHEN model_shape IS NULL THEN 'is not in the model'
            WHEN seen_shape <> model_shape THEN format('has shape {}, the model has {}', seen_shape, model_shape)
            WHEN nonfinite > 0 THEN format('has {} values that are NaN or infinite', nonfinite)
            WHEN mismatched > 0
                THEN format('({}) differs in {} values', type, mismatched)
                    || coalesce(format(', relative error {:.2g}', relative_rmse), '')
                    || coalesce(format(', scale {:.4g}', scale), '')
            WHEN NOT is_plain AND relative_rmse > max_relative_rmse
                THEN format(
                    '({}) has relative error {:.3g}, the quantisation costs at most {:.2g}',
                    type,
                    relative_rmse,
                    max_relative_rmse
                )
                    || coalesce(format(', scale {:.4g}', scale), '')
            WHEN NOT is_plain AND abs(scale - 1) > max_scale_error
                THEN format(
                    '({}) is scaled by {:.4g}, rounding explains at most {:.2g} of difference',
                    type,
                    scale,
                    max_scale_error
                )
        END AS defect,
        CASE
            WHEN observed NOT IN ('path', 'endpoint', 'reenacted') THEN NULL
            WHEN error IS NOT NULL THEN error
            WHEN seen_shape IS NULL AND model_shape IS NULL THEN 'the probe returned no facts of this tensor'
            WHEN is_plain AND mismatched IS NULL THEN 'its values were not compared'
            WHEN NOT is_plain AND (relative_rmse IS NULL OR scale IS NULL) AND max_abs IS DISTINCT FROM 0
                THEN 'its error was not measured'
            WHEN type IS NULL OR NOT is_plain AND max_relative_rmse IS NULL
                THEN format('no calibrated bound for the type {}', coalesce(type, 'unknown'))
        END AS gap
    FROM bounded
)

SELECT
    run_id, cell_id, node_id, attempt, judged, later, 'weights' AS stage, probe, case_id, case_digest,
    tags, observed, repeat, 'model' AS truth, NULL::VARCHAR AS reference_id,
    CASE
        WHEN defect IS NOT NULL THEN 'mismatch'
        WHEN gap IS NOT NULL THEN 'error'
        WHEN observed NOT IN ('path', 'endpoint', 'reenacted') THEN 'not_observed'
        ELSE 'match'
    END AS outcome,
    format('shape {}', coalesce(model_shape, 'none')) AS expected,
    format('shape {}, type {}', coalesce(seen_shape, 'none'), coalesce(type, 'unknown'))
    || coalesce(format(', {} values differ', mismatched), '')
    || coalesce(format(', relative error {:.3g}', relative_rmse), '')
    || coalesce(format(', scale {:.6g}', scale), '') AS seen,
    coalesce(tensor || ' ' || defect, gap) AS detail,
    payload_digest, trace_row,
    CASE
        WHEN seen_shape IS NULL OR model_shape IS NULL OR nonfinite > 0 THEN 1e9
        ELSE greatest(coalesce(relative_rmse, 0), coalesce(abs(scale - 1), 0))
    END AS severity
FROM judged
