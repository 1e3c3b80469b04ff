-- One row is a forced case of a (cell, node) and probe in one case group.
--
-- One row per forced case within a (cell, node, probe, case group): the clusters, numbered.
SELECT
    g.run_id, g.cell_id, g.node_id, g.attempt, g.probe, g.case_group, g.case_id, n.sum_kl, n.positions,
    n.mean_kl, n.max_kl, n.flips, n.nonfinite, n.worst_position, g.reference_id,
    row_number() OVER cluster - 1 AS slot,
    count(*) OVER everything AS clusters
FROM numeric.logits_grouped AS g
INNER JOIN numeric.cases AS n USING (trace_row)
WHERE n.kind = 'reference'
WINDOW
    cluster AS (PARTITION BY g.run_id, g.cell_id, g.node_id, g.probe, g.case_group ORDER BY g.case_id, g.repeat),
    everything AS (PARTITION BY g.run_id, g.cell_id, g.node_id, g.probe, g.case_group)
