-- One row is a fact that an attempt's engine states, next to the model's own.
--
-- Facts that the engine states, against the model's files. Where the model says null anything agrees (but see
-- `sources.facts`);
-- a number that an engine rounds up to whole blocks agrees when it is the next block, and a fact that
-- differs in bytes but not in meaning is `noted`.
WITH stated AS (
    SELECT
        t.run_id, t.cell_id, t.node_id, t.attempt, a.judged, a.later, t.probe, t.case_id, t.case_digest,
        t.tags, t.observed, t.repeat, t.payload_digest, t.error, t.rowid AS trace_row,
        substr(t.case_id, 8) AS fact,
        (TRY_CAST(t.value AS JSON) -> '$.seen')::VARCHAR AS seen,
        (TRY_CAST(t.value AS JSON) -> '$.model')::VARCHAR AS expected,
        (TRY_CAST(t.value AS JSON) ->> '$.from') AS said_by,
        (TRY_CAST(t.value AS JSON) ->> '$.difference') AS difference,
        (TRY_CAST(t.value AS JSON) -> '$.extra')::VARCHAR AS extra,
        (TRY_CAST(t.value AS JSON) -> '$.missing')::VARCHAR AS lacking
    FROM traces AS t
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id, attempt)
    WHERE t.stage = 'config' AND starts_with(t.case_id, 'config/')
),

-- A window that holds the whole served context hides nothing.
windows AS (
    SELECT
        run_id, cell_id, node_id, attempt,
        max(TRY_CAST(expected AS BIGINT)) FILTER (WHERE fact = 'context_length') AS context,
        max(TRY_CAST(seen AS BIGINT)) FILTER (WHERE fact = 'sliding_window') AS seen_window,
        max(TRY_CAST(expected AS BIGINT)) FILTER (WHERE fact = 'sliding_window') AS model_window,
        bool_or(coalesce(expected, 'null') <> 'null') FILTER (WHERE fact = 'rope_theta_windowed') AS has_own_rope
    FROM stated
    GROUP BY ALL
)

SELECT
    s.run_id, s.cell_id, s.node_id, s.attempt, s.judged, s.later, 'config' AS stage, s.probe, s.case_id,
    s.case_digest, s.tags, s.observed, s.repeat, 'model' AS truth, NULL::VARCHAR AS reference_id,
    CASE
        WHEN s.observed NOT IN ('path', 'endpoint', 'reenacted') THEN 'not_observed'
        WHEN s.error IS NOT NULL OR s.seen IS NULL THEN 'error'
        WHEN coalesce(s.expected, 'null') = 'null' AND NOT (coalesce(f.null_is_none, false) AND s.seen <> 'null')
            THEN 'match'
        WHEN canonical_fact(s.fact, s.seen) = canonical_fact(s.fact, s.expected) THEN 'match'
        WHEN s.fact IN ('sliding_window', 'windowed_layers') AND NOT coalesce(w.has_own_rope, false)
            AND coalesce(w.seen_window, w.context) >= w.context
            AND coalesce(w.model_window, w.context) >= w.context
            THEN 'match'
        WHEN TRY_CAST(s.seen AS BIGINT) = f.rounded_up_to * ceil(TRY_CAST(s.expected AS BIGINT) / f.rounded_up_to)
            THEN 'match'
        WHEN f.kind = 'bytes' THEN 'noted'
        ELSE 'mismatch'
    END AS outcome,
    s.expected, s.seen,
    CASE
        WHEN s.error IS NOT NULL THEN s.error
        WHEN s.seen IS NULL THEN 'the engine does not state it'
        WHEN s.fact = 'not_compared'
            THEN wording.not_understood(
                list_concat(TRY_CAST(s.expected AS VARCHAR[]), TRY_CAST(s.seen AS VARCHAR[]))
            )
        WHEN s.difference IS NOT NULL THEN format('{}: {}', s.fact, s.difference)
        ELSE format(
            '{} {}, {} {}', s.fact, regexp_replace(s.seen, '\.0$', ''),
            CASE WHEN s.fact IN ('compute_dtype', 'kv_dtype') THEN 'the pass asks for' ELSE 'the model says' END,
            coalesce(regexp_replace(s.expected, '\.0$', ''), 'nothing')
        )
        || CASE WHEN s.said_by = 'artifact' THEN ' (read from the file)' ELSE '' END
        || CASE WHEN s.extra <> '{}' THEN '; extra: ' || wording.tokens(s.extra) ELSE '' END
        || CASE WHEN s.lacking <> '{}' THEN '; missing: ' || wording.tokens(s.lacking) ELSE '' END
    END AS detail,
    s.payload_digest, s.trace_row, f.explains
FROM stated AS s
LEFT JOIN windows AS w USING (run_id, cell_id, node_id, attempt)
LEFT JOIN sources.facts AS f ON s.fact = f.fact
