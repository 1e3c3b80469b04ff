-- One row is a probe of `logits` of a (cell, node), with the shape of its KL over positions.
--
-- How KL runs over the positions of a (cell, node, probe), pooled over its cases: where inside the stage a
-- fault lies. Only a divergent stage is read by it; equal numbers have a shape too, that of their noise.
--
-- Each position counts once, as the mean of ln KL over the cases that reach it, so that a step which few
-- long cases reach is not outvoted. `step` is the split with the largest share of the variance explained,
-- `growth` the line over ln(1 + position), which any power of the distance follows.
WITH starts AS (
    SELECT
        o.run_id, o.cell_id, o.node_id, o.attempt, o.stage, o.probe, o.case_id, o.repeat,
        coalesce(TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.start' AS BIGINT), 0) AS start
    FROM staging.observations AS o
    INNER JOIN traces AS t ON o.trace_row = t.rowid
    WHERE o.judged AND o.stage = 'logits' AND o.outcome = 'numeric'
),

pooled AS (
    SELECT
        p.run_id, p.cell_id, p.node_id, p.attempt, p.probe, s.start + p.position AS place,
        avg(p.x) AS y, sum(p.kl) AS total
    FROM positions AS p
    INNER JOIN starts AS s USING (run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat)
    CROSS JOIN sources.rules AS r
    -- What an engine tells of itself is not trusted: of no such place anything can be said.
    WHERE s.start BETWEEN 0 AND r.max_position AND p.kind = 'reference' AND NOT p.nonfinite
    GROUP BY ALL
),

running AS (
    SELECT
        *,
        count(*) OVER before AS n_left, coalesce(sum(y) OVER before, 0) AS left_sum,
        count(*) OVER everything AS n, sum(y) OVER everything AS whole_sum
    FROM pooled
    WINDOW
        before AS (
            PARTITION BY run_id, cell_id, node_id, probe ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ),
        everything AS (PARTITION BY run_id, cell_id, node_id, probe)
),

splits AS (
    SELECT
        w.*,
        CASE
            WHEN w.n_left >= r.profile_side AND w.n - w.n_left >= r.profile_side
                THEN
                    w.left_sum ^ 2 / w.n_left + (w.whole_sum - w.left_sum) ^ 2 / (w.n - w.n_left)
                    - w.whole_sum ^ 2 / w.n
        END AS between_sides
    FROM running AS w
    CROSS JOIN sources.rules AS r
),

fitted AS (
    SELECT
        run_id, cell_id, node_id, attempt, probe, count(*) AS positions,
        max(total) / nullif(sum(total), 0) AS share,
        arg_max(place, total) AS largest_at,
        arg_max(place, between_sides) AS step_at,
        arg_max((whole_sum - left_sum) / (n - n_left) - left_sum / n_left, between_sides) FILTER (WHERE n_left > 0)
            AS step_rise,
        coalesce(max(between_sides) / nullif(regr_syy(y, place), 0), 0) AS step_explained,
        coalesce(regr_r2(y, ln(1 + place)), 0) AS growth_explained,
        regr_slope(y, ln(1 + place)) * (ln(1 + max(place)) - ln(1 + min(place))) AS growth_rise
    FROM splits
    GROUP BY ALL
),

bordering AS (
    SELECT run_id, cell_id, node_id, 'the sliding window of ' || width AS border, width, 0 AS rank
    FROM (
        SELECT run_id, cell_id, node_id, TRY_CAST(unnest([seen, expected]) AS BIGINT) AS width
        FROM compared.config
        WHERE judged AND case_id = 'config/sliding_window'
    )
    UNION
    SELECT p.run_id, p.cell_id, p.node_id, format('{} {}', o.key, o.value), TRY_CAST(o.value AS BIGINT), 1
    FROM staging.pairs AS p
    INNER JOIN attempts AS a
        ON a.run_id = p.run_id AND a.cell_id = p.cell_id AND a.node_id = p.node_id AND a.attempt = p.judged_attempt
    CROSS JOIN json_each(TRY_CAST(a.probe_overrides AS JSON)) AS o
    UNION
    SELECT p.run_id, p.cell_id, p.node_id, format('{} {}', o.key, o.value), TRY_CAST(o.value AS BIGINT), 1
    FROM staging.pairs AS p
    INNER JOIN runs AS r ON r.run_id = p.run_id
    CROSS JOIN json_each(TRY_CAST(r.config AS JSON), '$.matrix.engines') AS e
    CROSS JOIN json_each(e.value, '$.options') AS o
    WHERE coalesce(e.value ->> '$.name', e.value ->> '$.engine') = p.engine
    UNION
    SELECT run_id, cell_id, node_id, '2^' || power, 2 ^ power, 2
    FROM staging.pairs
    CROSS JOIN range(0, 63) AS powers (power)
),

borders AS (
    SELECT b.*
    FROM bordering AS b
    CROSS JOIN sources.rules AS r
    WHERE b.width BETWEEN r.profile_least_border AND r.max_position
),

shaped AS (
    SELECT
        f.*,
        CASE
            WHEN f.positions < 2 * r.profile_side THEN NULL
            WHEN f.share >= r.profile_single_share THEN 'single row'
            WHEN f.growth_explained >= r.profile_explained AND f.growth_rise >= r.profile_rise
                AND f.growth_explained >= f.step_explained
                THEN 'growth'
            WHEN f.step_explained >= r.profile_explained AND abs(f.step_rise) >= r.profile_rise THEN 'step'
            ELSE 'flat'
        END AS kind
    FROM fitted AS f
    CROSS JOIN sources.rules AS r
),

located AS (
    SELECT *, CASE kind WHEN 'step' THEN step_at WHEN 'single row' THEN largest_at END AS place_at
    FROM shaped
    WHERE kind IS NOT NULL
),

bordered AS (
    SELECT l.*, b.border
    FROM located AS l
    LEFT JOIN borders AS b
        ON b.run_id = l.run_id AND b.cell_id = l.cell_id AND b.node_id = l.node_id
        AND l.kind = 'step' AND abs(b.width - l.place_at) <= (SELECT profile_border_slack FROM sources.rules)
    QUALIFY row_number() OVER (
        PARTITION BY l.run_id, l.cell_id, l.node_id, l.probe
        ORDER BY b.rank NULLS LAST, abs(b.width - l.place_at), b.border
    ) = 1
)

SELECT
    run_id, cell_id, node_id, attempt, probe,
    CASE kind
        WHEN 'step' THEN format('step at {}', place_at)
        WHEN 'single row' THEN format('single row {}', place_at)
        WHEN 'growth' THEN 'growth with distance'
        ELSE 'flat'
    END AS shape,
    place_at AS position, border, positions,
    CASE kind WHEN 'step' THEN step_rise WHEN 'growth' THEN growth_rise END AS rise,
    CASE kind WHEN 'step' THEN step_explained WHEN 'growth' THEN growth_explained END AS explained,
    share,
    CASE kind
        WHEN 'growth' THEN 'it grows with the position: looks like RoPE or its scaling'
        WHEN 'single row' THEN format('{:.0f} % of it lies in the single position {}', 100 * share, place_at)
        WHEN 'step' THEN CASE WHEN step_rise > 0 THEN 'it steps up' ELSE 'it drops' END
            || format(' at position {}', place_at) || coalesce(' (' || border || ')', '')
            || ': looks like the border of a window, chunk or block'
        ELSE 'it is spread evenly over the positions'
    END AS told
FROM bordered
