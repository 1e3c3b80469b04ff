-- One row is a floor as one run sees it, for one probe.
--
-- Each floor, prefill and decode apart, as the parameters of its prediction t: x = ln(mean KL + offset)
-- over B configurations. With enough of them their own spread counts, with B - 1 degrees of freedom. With
-- fewer, the prior of this engine and dtype (`sources.floor_priors`) adds its own: the posterior of a normal
-- with known prior for the variance and none for the mean. With fewer still, `degrees` is null: no floor.
WITH measured AS (
    SELECT
        o.run_id, f.floor_id, k.found_by AS function_digest, lower(f.compute_dtype) AS compute_dtype, f.backend,
        f.suite, f.probe, any_value(f.engine) AS engine, min(o.rank) AS rank, max(f.created) AS created,
        count(DISTINCT f.configuration) AS configurations,
        avg(ln(greatest(f.mean_kl, 0) + r.kl_offset)) AS mean_x,
        coalesce(stddev_samp(ln(greatest(f.mean_kl, 0) + r.kl_offset)), 0) AS own_sd,
        max(f.mean_kl) AS max_mean_kl, max(f.max_flip_margin) AS max_flip_margin
    FROM sources.floors AS f
    INNER JOIN sources.reference_roots AS o ON f.root = o.root
    INNER JOIN staging.truth_keys AS k
        ON o.run_id = k.run_id AND f.weights_digest = k.weights_digest
        AND f.function_digest IS NOT DISTINCT FROM k.function_digest
    CROSS JOIN sources.rules AS r
    GROUP BY o.run_id, f.floor_id, k.found_by, lower(f.compute_dtype), f.backend, f.suite, f.probe
),

known AS (
    SELECT
        m.*, p.sd AS prior_sd,
        CASE WHEN m.configurations >= r.min_floor_configurations THEN 0 ELSE p.weight END AS prior_degrees,
        CASE WHEN p.weight IS NULL THEN r.min_floor_configurations ELSE r.min_prior_configurations END AS needed,
        r.min_floor_sd
    FROM measured AS m
    CROSS JOIN sources.rules AS r
    LEFT JOIN sources.floor_priors AS p
        ON m.engine = p.engine AND (m.compute_dtype = p.compute_dtype OR p.compute_dtype = '*')
    QUALIFY row_number() OVER (
        PARTITION BY m.run_id, m.floor_id, m.function_digest, m.probe ORDER BY p.compute_dtype = '*'
    ) = 1
)

SELECT
    * EXCLUDE (engine, own_sd, min_floor_sd),
    CASE
        WHEN configurations < needed THEN NULL
        WHEN prior_degrees = 0 THEN greatest(own_sd, min_floor_sd)
        ELSE
            sqrt(
                (prior_degrees * prior_sd ^ 2 + (configurations - 1) * own_sd ^ 2)
                / (prior_degrees + configurations - 1)
            )
    END AS sd_x,
    CASE WHEN configurations >= needed THEN prior_degrees + configurations - 1 END AS degrees
FROM known
