-- One row is a compared pair of numeric traces: a case and probe of an attempt, and what it is compared with.
--
-- Sums over the positions of one case and probe: the clusters of the bootstrap.
SELECT
    kind, run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat, other, trace_row, other_row,
    count(*) AS positions,
    count(*) FILTER (WHERE nonfinite) AS nonfinite,
    coalesce(sum(kl) FILTER (WHERE NOT nonfinite), 0) AS sum_kl,
    max(kl) FILTER (WHERE NOT nonfinite) AS max_kl,
    avg(kl) FILTER (WHERE NOT nonfinite) AS mean_kl,
    max_by(position, (kl, -position)) FILTER (WHERE NOT nonfinite) AS worst_position,
    count(*) FILTER (WHERE flip AND NOT nonfinite) AS flips,
    coalesce(max(margin) FILTER (WHERE flip AND NOT nonfinite), 0) AS max_flip_margin
FROM positions
GROUP BY ALL
