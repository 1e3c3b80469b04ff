-- One row is an outcome of a factorial suite and a set of factors that two answers share.
--
-- Half the mean squared difference of two answers that share exactly the factors of `shared`.
--
-- Factors are bits: prompt 1, item 2, engine 4, hardware 8. A factor with one level is shared by all
-- pairs and left out of the masks. Pairs are never formed: within a group of n answers the squared
-- differences of all pairs add up to n Σy² − (Σy)², so every set of factors costs one GROUP BY. That
-- counts pairs which share at least those factors; of exactly those speaks inclusion–exclusion:
--     exactly(S) = Σ over T ⊇ S of (−1)^(|T| − |S|) · at_least(T)
WITH centred AS (
    -- About the mean of all, so that nearly equal values do not cancel in n Σy² − (Σy)².
    SELECT * EXCLUDE (value), value - avg(value) OVER (PARTITION BY suite, suite_version, model, pass, outcome) AS y
    FROM staging.outcomes
),

designs AS (
    SELECT
        suite, suite_version, model, pass, outcome, count(*) AS n,
        count(DISTINCT prompt) AS prompts, count(DISTINCT item) AS items,
        count(DISTINCT engine) AS engines, count(DISTINCT hardware) AS machines,
        (count(DISTINCT prompt) > 1)::INTEGER + 2 * (count(DISTINCT item) > 1)::INTEGER
        + 4 * (count(DISTINCT engine) > 1)::INTEGER + 8 * (count(DISTINCT hardware) > 1)::INTEGER AS active
    FROM staging.outcomes
    GROUP BY ALL
),

grouped_sums AS (
    SELECT
        suite, suite_version, model, pass, outcome,
        15 - (grouping(prompt) + 2 * grouping(item) + 4 * grouping(engine) + 8 * grouping(hardware)) AS mask,
        count(*) AS n, sum(y) AS total, sum(y * y) AS squares
    FROM centred
    GROUP BY suite, suite_version, model, pass, outcome, CUBE (prompt, item, engine, hardware)
),

at_least AS (
    SELECT
        g.suite, g.suite_version, g.model, g.pass, g.outcome, g.mask,
        sum(g.n * (g.n - 1) / 2) AS pairs, sum(greatest(g.n * g.squares - g.total * g.total, 0)) AS differences
    FROM grouped_sums AS g
    INNER JOIN designs AS d USING (suite, suite_version, model, pass, outcome)
    WHERE (g.mask & ~d.active) = 0
    GROUP BY ALL
)

SELECT
    d.*, s.mask AS shared,
    round(sum(t.pairs * (-1) ** bit_count(t.mask - s.mask)))::BIGINT AS pairs,
    CASE
        WHEN round(sum(t.pairs * (-1) ** bit_count(t.mask - s.mask))) > 0
            THEN sum(t.differences * (-1) ** bit_count(t.mask - s.mask))
                / round(sum(t.pairs * (-1) ** bit_count(t.mask - s.mask))) / 2
    END AS half_square
FROM at_least AS s
INNER JOIN at_least AS t
    ON s.suite = t.suite AND s.suite_version = t.suite_version AND s.model = t.model
    AND s.pass = t.pass AND s.outcome = t.outcome AND (t.mask & s.mask) = s.mask
INNER JOIN designs AS d
    ON s.suite = d.suite AND s.suite_version = d.suite_version AND s.model = d.model
    AND s.pass = d.pass AND s.outcome = d.outcome
GROUP BY ALL
