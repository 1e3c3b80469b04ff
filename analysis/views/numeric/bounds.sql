-- One row is a probe of `logits` of a (cell, node) in one case group, with its mean KL and bounds.
--
-- Mean KL per (cell, node, probe, case group) with its 95 % bounds [ci_low, ci_high].
WITH summed AS (
    SELECT
        run_id, cell_id, node_id, attempt, probe, case_group,
        any_value(clusters) AS clusters,
        sum(positions) AS n,
        sum(positions - nonfinite) AS finite,
        sum(sum_kl) / nullif(sum(positions - nonfinite), 0) AS mean_kl,
        max(max_kl) AS max_kl,
        min(mean_kl) AS min_case,
        sum(flips) AS flips,
        sum(nonfinite) AS nonfinite,
        min_by(case_id, (nonfinite = 0, case_id)) AS first_nonfinite_case,
        max_by(case_id, (mean_kl, case_id)) FILTER (WHERE mean_kl IS NOT NULL) AS worst_case,
        max_by(worst_position, (mean_kl, case_id)) FILTER (WHERE mean_kl IS NOT NULL) AS worst_position,
        min(reference_id) AS reference_id
    FROM numeric.groups
    INNER JOIN sources.judging USING (run_id)
    GROUP BY ALL
),

resampled AS (
    SELECT
        g.run_id, g.cell_id, g.node_id, g.probe, g.case_group, s.draw,
        sum(g.sum_kl * s.times) / nullif(sum((g.positions - g.nonfinite) * s.times), 0) AS mean_kl
    FROM numeric.groups AS g
    INNER JOIN numeric.resamples AS s ON g.clusters = s.clusters AND g.slot = s.slot
    GROUP BY ALL
),

sorted AS (
    SELECT run_id, cell_id, node_id, probe, case_group, list_sort(list(mean_kl)) AS means
    FROM resampled
    GROUP BY ALL
),

-- The percentile bounds, rounded outwards to a resample that was drawn.
bounds AS (
    SELECT
        b.* EXCLUDE (means),
        b.means[floor(r.lower_quantile * (len(b.means) - 1))::BIGINT + 1] AS low,
        b.means[ceil(r.upper_quantile * (len(b.means) - 1))::BIGINT + 1] AS high
    FROM sorted AS b
    CROSS JOIN sources.rules AS r
)

SELECT
    s.* EXCLUDE (clusters, min_case),
    CASE WHEN s.clusters >= r.min_clusters THEN b.low ELSE s.min_case END AS ci_low,
    CASE WHEN s.clusters >= r.min_clusters THEN b.high ELSE s.max_kl END AS ci_high
FROM summed AS s
CROSS JOIN sources.rules AS r
LEFT JOIN bounds AS b USING (run_id, cell_id, node_id, probe, case_group)
