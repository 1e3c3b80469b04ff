-- One row is a component of the variance of one outcome of a factorial suite.
--
-- What outcomes of a factorial suite differ by: the share of prompt, item, engine, hardware and noise.
--
-- The model: y = mean + prompt + item + engine + hardware + interactions + noise, all of them random and
-- uncorrelated. A method of moments over pairs of answers (G. G. Koch, "A general approach to the
-- estimation of variance components", Technometrics 9, 1967, 93-118). With h(S) half the mean squared
-- difference of answers that share exactly the factors S:
--     h(nothing)           = the whole variance
--     h(nothing) - h({A})  = the component of A: what an answer and another have in common by A alone
--     h(all factors)       = noise: the same cell on the same machine asked the same again
--     what remains         = interactions: a prompt that only some questions mind, and the like
-- For a balanced design these are the estimates of the analysis of variance with all interactions; an
-- unbalanced one needs no other formula, because only like is compared with like.
--
-- An estimate below nought is sampling error about a component near nought: it is clipped at 0 and says
-- so. Shares are of the sum of what is left, per outcome. A component is null, not 0, where the design
-- cannot show it: a factor with one level; two factors that never vary apart (each engine on a machine of
-- its own); noise where nothing was asked twice (it is then within the interactions).
--
-- Engine and hardware are what a fleet confounds: where one of them has no component of its own, the row
-- `engine or hardware` has what both share out together, beyond what the other is known to (their
-- interaction is in it too):
--     h(nothing) - h({engine, hardware}) = engine + hardware + engine:hardware
-- Where that cannot be estimated either, or prompt and item are confounded, what remains is no interaction but
-- unknown: `interactions` is null, and the shares are of the whole variance and add up to less than 1.
WITH factors AS (
    FROM (VALUES ('prompt', 1), ('item', 2), ('engine', 4), ('hardware', 8)) AS f (component, bit)
),

designs AS (
    SELECT
        suite, suite_version, model, pass, outcome, n, active, prompts, items, engines, machines,
        any_value(half_square) FILTER (WHERE shared = 0) AS whole,
        any_value(half_square) FILTER (WHERE shared = active) AS repeated,
        any_value(pairs) FILTER (WHERE shared = active) AS repeats
    FROM numeric.shared_factors
    GROUP BY ALL
),

main_effects AS (
    SELECT
        d.suite, d.suite_version, d.model, d.pass, d.outcome, f.component, f.bit, d.n,
        CASE f.component
            WHEN 'prompt' THEN d.prompts WHEN 'item' THEN d.items WHEN 'engine' THEN d.engines ELSE d.machines
        END AS levels,
        s.pairs,
        -- With a single active factor "shares only it" and "shares all" are the same pairs.
        d.whole, d.whole - s.half_square AS estimate
    FROM designs AS d
    CROSS JOIN factors AS f
    LEFT JOIN numeric.shared_factors AS s
        ON s.suite = d.suite AND s.suite_version = d.suite_version AND s.model = d.model
        AND s.pass = d.pass AND s.outcome = d.outcome AND s.shared = f.bit
),

noise AS (
    SELECT
        suite, suite_version, model, pass, outcome, 'noise' AS component, 16 AS bit, n,
        NULL::BIGINT AS levels, CASE WHEN active > 0 THEN repeats END AS pairs,
        whole, CASE WHEN active > 0 THEN repeated END AS estimate
    FROM designs
),

inseparable AS (
    SELECT
        suite, suite_version, model, pass, outcome,
        count(*) FILTER (WHERE component IN ('engine', 'hardware')) AS of_the_two,
        count(*) FILTER (WHERE component IN ('prompt', 'item')) AS of_others
    FROM main_effects
    WHERE levels > 1 AND estimate IS NULL
    GROUP BY ALL
),

joint AS (
    SELECT
        m.suite, m.suite_version, m.model, m.pass, m.outcome, 'engine or hardware' AS component, 12 AS bit,
        any_value(m.n) AS n, NULL::BIGINT AS levels, any_value(s.pairs) AS pairs, any_value(m.whole) AS whole,
        any_value(m.whole) - any_value(s.half_square) - coalesce(sum(greatest(m.estimate, 0)), 0) AS estimate
    FROM main_effects AS m
    INNER JOIN inseparable AS i USING (suite, suite_version, model, pass, outcome)
    LEFT JOIN numeric.shared_factors AS s
        ON s.suite = m.suite AND s.suite_version = m.suite_version AND s.model = m.model
        AND s.pass = m.pass AND s.outcome = m.outcome AND s.shared = 12
    WHERE i.of_the_two > 0 AND m.component IN ('engine', 'hardware')
    GROUP BY ALL
    HAVING min(m.levels) > 1
),

known AS (
    SELECT * FROM main_effects
    UNION ALL BY NAME
    SELECT * FROM joint
    UNION ALL BY NAME
    SELECT * FROM noise
),

interactions AS (
    SELECT
        d.suite, d.suite_version, d.model, d.pass, d.outcome, 'interactions' AS component, 15 AS bit,
        d.n, NULL::BIGINT AS levels, NULL::BIGINT AS pairs, any_value(d.whole) AS whole,
        CASE
            WHEN coalesce(any_value(i.of_others), 0) = 0
                AND (
                    coalesce(any_value(i.of_the_two), 0) = 0
                    OR bool_or(k.component = 'engine or hardware' AND k.estimate IS NOT NULL)
                )
                THEN any_value(d.whole) - coalesce(sum(greatest(k.estimate, 0)), 0)
        END AS estimate
    FROM designs AS d
    LEFT JOIN known AS k USING (suite, suite_version, model, pass, outcome)
    LEFT JOIN inseparable AS i USING (suite, suite_version, model, pass, outcome)
    WHERE bit_count(d.active) > 1
    GROUP BY ALL
),

estimated AS (
    SELECT * FROM known
    UNION ALL BY NAME
    SELECT * FROM interactions
),

clipped AS (
    SELECT
        * EXCLUDE (estimate),
        -- Rounding leaves what is nought within 1e-12 of the whole.
        CASE WHEN estimate < 1e-12 * whole THEN 0 ELSE estimate END AS variance,
        coalesce(estimate < -1e-12 * whole, false) AS clipped, estimate
    FROM estimated
),

totals AS (
    SELECT
        *,
        -- What no component holds is part of the whole all the same.
        CASE
            WHEN bool_or(component = 'interactions' AND variance IS NULL) OVER outcome_of
                THEN greatest(whole, sum(variance) OVER outcome_of)
            ELSE sum(variance) OVER outcome_of
        END AS total,
        coalesce(bool_or(component = 'engine or hardware' AND variance IS NOT NULL) OVER outcome_of, false) AS has_joint
    FROM clipped
    WINDOW outcome_of AS (PARTITION BY suite, suite_version, model, pass, outcome)
)

SELECT
    suite, suite_version, model, pass, outcome, component, levels, n, pairs, variance,
    CASE WHEN total > 0 THEN variance / total END AS share,
    clipped,
    CASE
        WHEN levels = 1 THEN 'one level only'
        WHEN variance IS NULL AND component = 'noise' THEN 'nothing was asked twice: noise is within the interactions'
        WHEN variance IS NULL AND component = 'interactions'
            THEN 'cannot be separated from a factor that has no share of its own'
        WHEN variance IS NULL AND has_joint AND component = 'engine'
            THEN 'cannot be separated from the hardware: see `engine or hardware`'
        WHEN variance IS NULL AND has_joint AND component = 'hardware'
            THEN 'cannot be separated from the engine: see `engine or hardware`'
        WHEN variance IS NULL THEN 'cannot be separated: no two answers share it and nothing else'
        WHEN total <= 0 THEN 'nothing differs'
        WHEN clipped THEN format('estimated at {:.2g}, clipped at 0', estimate)
        ELSE format('{:.0f} % of the differences', 100 * variance / total)
    END AS says
FROM totals
ORDER BY suite, suite_version, model, pass, outcome, bit
