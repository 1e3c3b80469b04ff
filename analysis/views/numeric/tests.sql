-- One row is a probe of `logits` of a (cell, node) in one case group, with its test against the floor.
--
-- Floor p-value of each numeric test, and whether it survives Benjamini–Hochberg over the family that
-- was planned: every probe of every planned (cell, node), also those that never ran (their p is 1).
-- Whole cells (`*`, and what is declared apart from it) are one family, slices by tag another.
WITH family AS (
    SELECT run_id, is_slice, count(*) AS planned
    FROM (
        SELECT DISTINCT
            run_id, cell_id, node_id, probe, unnest(list_concat(['*'], list_distinct(tags))) AS case_group,
            case_group <> '*' AS is_slice
        FROM staging.planned_probes
        WHERE stage = 'logits'
        UNION
        SELECT run_id, cell_id, node_id, probe, case_group, false
        FROM numeric.logits_grouped
        WHERE starts_with(case_group, '*bound ')
    )
    GROUP BY run_id, is_slice
),

tests AS (
    SELECT
        b.*,
        o.floor_id,
        f.configurations,
        f.degrees,
        f.needed,
        o.max_flip_margin,
        NOT starts_with(b.case_group, '*') AS is_slice,
        CASE
            WHEN f.degrees IS NOT NULL AND b.mean_kl IS NOT NULL
                THEN t_upper_tail(
                    (ln(greatest(b.mean_kl, 0) + r.kl_offset) - f.mean_x) / (f.sd_x * sqrt(1 + 1.0 / f.configurations)),
                    f.degrees
                )
        END AS p_value
    FROM numeric.bounds AS b
    CROSS JOIN sources.rules AS r
    LEFT JOIN numeric.pair_floors AS o
        ON o.run_id = b.run_id AND o.cell_id = b.cell_id AND o.node_id = b.node_id
    LEFT JOIN numeric.floor_fits AS f
        ON f.run_id = o.run_id AND f.floor_id = o.floor_id AND f.function_digest = o.function_digest
        AND f.probe = b.probe
),

ranked AS (
    SELECT
        t.*, y.planned AS family_size,
        t.p_value * y.planned
        / row_number() OVER (
            PARTITION BY t.run_id, t.is_slice
            ORDER BY t.p_value NULLS LAST, t.cell_id, t.node_id, t.probe, t.case_group
        ) AS scaled
    FROM tests AS t
    LEFT JOIN family AS y ON t.run_id = y.run_id AND t.is_slice = y.is_slice
)

SELECT
    * EXCLUDE (scaled, is_slice, family_size),
    CASE WHEN p_value IS NOT NULL THEN least(1.0, min(scaled) OVER (
        PARTITION BY run_id, is_slice
        ORDER BY p_value DESC NULLS FIRST, cell_id DESC, node_id DESC, probe DESC, case_group DESC
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )) END AS adjusted_p
FROM ranked
