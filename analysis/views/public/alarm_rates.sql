-- One row is a floor and probe under one pass and margin, with its rate of alarms against itself.
--
-- The reference against itself: how often the numeric rule would call a benign configuration divergent.
--
-- Each configuration of a floor is left out in turn and judged by what remains, with the margin of the
-- cells that use the floor: mean KL > δ, and a leave-one-out prediction t (with the prior that the floor has)
-- at the false discovery rate. Its own mean stands for its lower bound, and no family corrects its p: both make
-- alarms likelier, not rarer.
-- `upper` is the one-sided Clopper–Pearson bound (`rate_confidence`). It takes configurations for independent draws,
-- which those of one engine are only roughly.
WITH used AS (
    SELECT DISTINCT f.run_id, f.floor_id, p.pass, p.margin
    FROM numeric.pair_floors AS f
    INNER JOIN staging.pairs AS p ON p.run_id = f.run_id AND p.cell_id = f.cell_id AND p.node_id = f.node_id
    WHERE p.margin IS NOT NULL
),

measured AS (
    SELECT DISTINCT
        o.run_id, f.floor_id, f.probe, f.configuration, f.mean_kl,
        ln(greatest(f.mean_kl, 0) + r.kl_offset) AS x
    FROM sources.floors AS f
    INNER JOIN sources.reference_roots AS o ON f.root = o.root
    CROSS JOIN sources.rules AS r
),

-- Centred first: the sums of squares stay small against what they are the difference of.
centred AS (
    SELECT *, x - avg(x) OVER floor AS d, count(*) OVER floor AS b
    FROM measured
    WINDOW floor AS (PARTITION BY run_id, floor_id, probe)
),

others AS (
    SELECT *, -d / (b - 1) AS mean_d, sum(d * d) OVER (PARTITION BY run_id, floor_id, probe) - d * d AS squares
    FROM centred
    WHERE b >= 3
),

predicted AS (
    SELECT
        o.*,
        t_upper_tail(
            (o.d - o.mean_d) / (
                greatest(
                    sqrt(
                        (
                            coalesce(f.prior_degrees * f.prior_sd ^ 2, 0)
                            + greatest(o.squares - (o.b - 1) * o.mean_d ^ 2, 0)
                        ) / (coalesce(f.prior_degrees, 0) + o.b - 2)
                    ),
                    r.min_floor_sd
                )
                * sqrt(1 + 1.0 / (o.b - 1))
            ),
            coalesce(f.prior_degrees, 0) + o.b - 2.0
        ) AS p_value
    FROM others AS o
    CROSS JOIN sources.rules AS r
    INNER JOIN (SELECT DISTINCT run_id, floor_id, probe, prior_degrees, prior_sd FROM numeric.floor_fits) AS f
        ON f.run_id = o.run_id AND f.floor_id = o.floor_id AND f.probe = o.probe
)

SELECT
    u.run_id, u.floor_id, p.probe, u.pass, u.margin, count(*) AS configurations,
    count(*) FILTER (WHERE p.mean_kl > u.margin AND p.p_value <= r.false_discovery_rate) AS alarms,
    binomial_upper(
        count(*) FILTER (WHERE p.mean_kl > u.margin AND p.p_value <= r.false_discovery_rate)::DOUBLE, count(*)::DOUBLE,
        any_value(r.rate_confidence)
    ) AS upper
FROM used AS u
INNER JOIN predicted AS p ON p.run_id = u.run_id AND p.floor_id = u.floor_id
CROSS JOIN sources.rules AS r
GROUP BY ALL
ORDER BY ALL
