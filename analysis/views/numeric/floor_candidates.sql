-- One row is a judged attempt and a probe of `logits`: a configuration that a floor can take in.
--
-- Each judged attempt with numbers as one configuration of a floor, prefill and decode apart.
SELECT
    n.run_id, n.cell_id, n.node_id, n.attempt, n.probe, any_value(p.suite) AS suite,
    any_value(p.function_digest) AS function_digest, any_value(p.weights_digest) AS weights_digest,
    any_value(p.tokenizer_digest) AS tokenizer_digest,
    coalesce(any_value(p.compute_dtype), 'unknown') AS compute_dtype, any_value(p.backend) AS backend,
    any_value(p.engine) AS entry, any_value(p.engine_kind) AS engine,
    coalesce(any_value(p.engine_version), 'unknown') AS engine_version, any_value(a.probe_overrides) AS probe_overrides,
    sum(n.sum_kl) / sum(n.positions) AS mean_kl, max(n.max_kl) AS max_kl, sum(n.positions) AS positions,
    sum(n.flips) AS flips, max(n.max_flip_margin) AS max_flip_margin, sum(n.nonfinite) AS nonfinite
FROM numeric.cases AS n
INNER JOIN staging.pairs AS p
    ON p.run_id = n.run_id AND p.cell_id = n.cell_id AND p.node_id = n.node_id
    AND p.judged_attempt = n.attempt
INNER JOIN attempts AS a
    ON a.run_id = n.run_id AND a.cell_id = n.cell_id AND a.node_id = n.node_id AND a.attempt = n.attempt
WHERE n.kind = 'reference' AND n.stage = 'logits'
GROUP BY n.run_id, n.cell_id, n.node_id, n.attempt, n.probe
