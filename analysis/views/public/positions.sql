-- One row is a position of two compared numeric traces.
--
-- Per-position KL(p || q) in nats over p's top-k and the tail, both renormalised in float64:
--   KL = sum p_i (ln p_i - ln q_i) / P - ln P + ln Q,  P = sum p_i, Q = sum q_i
-- Stored log-probabilities are float32; renormalising makes their rounding a second-order effect.
-- What is not finite is a defect and gets no KL. `margin` is p's top-1 over its top-2, in nats.
WITH unrolled AS (
    SELECT
        kind, run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat, other, trace_row, other_row,
        unnest(CASE WHEN len(kept) = len(p_topk) THEN kept ELSE range(len(p_topk)) END) AS position,
        unnest(p_topk) AS p_top,
        unnest(p_tail) AS p_rest,
        unnest(p_ids) AS p_id,
        unnest(q_topk) AS q_top,
        unnest(q_tail) AS q_rest,
        unnest(q_ids) AS q_id
    FROM numeric.inputs
),

paired AS (
    SELECT
        * EXCLUDE (p_top, p_rest, q_top, q_rest, p_id, q_id),
        list_zip(list_append(p_top::DOUBLE[], p_rest::DOUBLE), list_append(q_top::DOUBLE[], q_rest::DOUBLE)) AS pq,
        p_top[1]::DOUBLE - p_top[2]::DOUBLE AS margin,
        p_id[1] AS truth_top1,
        q_id[1] AS seen_top1
    FROM unrolled
),

checked AS (
    SELECT
        *,
        coalesce(list_bool_or(list_transform(pq, lambda z:
            z[1] IS NULL OR z[2] IS NULL OR isnan(z[1]) OR isnan(z[2])
            OR z[1] = 'inf'::DOUBLE OR z[2] = 'inf'::DOUBLE
            OR (z[2] = '-inf'::DOUBLE AND z[1] > '-inf'::DOUBLE)
        )), true) AS nonfinite
    FROM paired
),

summed AS (
    SELECT
        *,
        CASE WHEN NOT nonfinite THEN list_sum(list_transform(pq, lambda z: exp(z[1]))) END AS p_sum,
        CASE WHEN NOT nonfinite THEN list_sum(list_transform(pq, lambda z: exp(z[2]))) END AS q_sum,
        CASE
            WHEN NOT nonfinite
                THEN list_sum(list_transform(pq, lambda z:
                    CASE WHEN z[1] = '-inf'::DOUBLE THEN 0.0 ELSE exp(z[1]) * (z[1] - z[2]) END))
        END AS crossed
    FROM checked
),

measured AS (
    SELECT
        * EXCLUDE (pq, p_sum, q_sum, crossed),
        CASE WHEN p_sum > 0 AND q_sum > 0 THEN crossed / p_sum - ln(p_sum) + ln(q_sum) END AS raw_kl
    FROM summed
)

SELECT
    m.* EXCLUDE (raw_kl, nonfinite),
    -- greatest() and least() skip nulls: without the CASE, what has no KL would have KL 0.
    CASE WHEN isfinite(m.raw_kl) THEN greatest(m.raw_kl, 0) END AS kl,
    CASE WHEN isfinite(m.raw_kl) THEN ln(greatest(m.raw_kl, 0) + r.kl_offset) END AS x,
    m.truth_top1 IS DISTINCT FROM m.seen_top1 AS flip,
    m.nonfinite OR m.raw_kl IS NULL OR NOT isfinite(m.raw_kl) AS nonfinite
FROM measured AS m
CROSS JOIN sources.rules AS r
