-- One row is a floor as one run sees it, for one probe.
--
-- Each floor, prefill and decode apart, as the parameters of its prediction t: x = ln(mean KL + offset)
-- over B configurations.
SELECT
    o.run_id, f.floor_id, k.found_by AS function_digest, lower(f.compute_dtype) AS compute_dtype, f.backend,
    f.suite, f.probe, min(o.rank) AS rank, max(f.created) AS created,
    count(DISTINCT f.configuration) AS configurations,
    avg(ln(greatest(f.mean_kl, 0) + r.kl_offset)) AS mean_x,
    greatest(coalesce(stddev_samp(ln(greatest(f.mean_kl, 0) + r.kl_offset)), 0), any_value(r.min_floor_sd)) AS sd_x,
    max(f.mean_kl) AS max_mean_kl, max(f.max_flip_margin) AS max_flip_margin
FROM sources.floors AS f
INNER JOIN sources.reference_roots AS o ON f.root = o.root
INNER JOIN staging.truth_keys AS k
    ON o.run_id = k.run_id AND f.weights_digest = k.weights_digest
    AND f.function_digest IS NOT DISTINCT FROM k.function_digest
CROSS JOIN sources.rules AS r
GROUP BY o.run_id, f.floor_id, k.found_by, lower(f.compute_dtype), f.backend, f.suite, f.probe
