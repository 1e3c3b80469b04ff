-- One row is a `draws` trace with the test of its best reading.
--
-- Each `draws` trace as one test of four parts. What came although it was cut rejects by itself. Beside that:
-- χ² over bins that are each expected at least `min_expected_draws` times, rare tokens several to a bin;
-- whether the improbable ones came at all; and whether more fell on the border than it can hold. Of the
-- readings of a request (`numeric.draw_odds`) the one that fits best is taken.
--
-- Where the last tokens in order hold the mass m and none of n draws was one of them, p = (1 - m)^n: the
-- exact chance of that, so a cut that nobody asked for is seen also where χ² pools what it cuts. The border
-- is one-sided and exact too: binomial with the largest share it can have. p_value is three times the
-- least of the three p (Bonferroni).
--
-- Where one token holds nearly all, the others are counted: their number is binomial.
--
-- powerless: nothing is left to compare, or so much fell on the border that the rest is no test.
-- broken: a number of the test itself is not finite.
-- detectable: the least effect that this very test shows with power `draws_power`: Cohen's w, or where the
-- others are counted twice their least additional share (w is never below twice the total variation).
-- effect: the total variation distance over the same bins.
WITH binned AS (
    SELECT
        run_id, cell_id, node_id, attempt, case_id, repeat, trace_row, reading, bin,
        any_value(bin_due) AS due, sum(drawn)::DOUBLE AS drawn
    FROM numeric.draw_odds
    WHERE bin IS NOT NULL
    GROUP BY ALL
),

-- The first bins are single tokens, most expected first; then come the grouped ones in order.
listed AS (
    SELECT trace_row, reading, list({drawn: drawn, due: due} ORDER BY bin >= 0, abs(bin)) AS bins
    FROM binned
    WHERE due > 0
    GROUP BY ALL
),

totals AS (
    SELECT
        o.run_id, o.cell_id, o.node_id, o.attempt, o.case_id, o.repeat, o.trace_row, o.reading,
        any_value(o.used) AS used, any_value(o.silent) AS silent, any_value(o.others) AS others,
        any_value(o.border_share) AS border_share, any_value(o.is_fixed) AS is_fixed, sum(o.drawn) AS n,
        coalesce(sum(o.drawn) FILTER (WHERE o.standing = 'cut'), 0) AS impossible,
        coalesce(sum(o.drawn) FILTER (WHERE o.standing = 'border'), 0) AS left_out,
        max_by(o.token_id, (o.drawn, -o.token_id)) FILTER (WHERE o.standing = 'cut') AS worst_cut,
        coalesce(sum(o.drawn) FILTER (WHERE o.standing = 'kept' AND o.place > 1), 0) AS rest_drawn
    FROM numeric.draw_odds AS o
    GROUP BY ALL
),

-- What the last bin lacks it gets from the one before.
merged AS (
    SELECT
        t.*, t.used * t.others AS rest_due,
        CASE
            WHEN l.bins IS NULL THEN []
            WHEN len(l.bins) > 1 AND l.bins[-1].due < r.min_expected_draws
                THEN
                    list_append(
                        l.bins[:-3], {drawn: l.bins[-2].drawn + l.bins[-1].drawn, due: l.bins[-2].due + l.bins[-1].due}
                    )
            ELSE l.bins
        END AS bins
    FROM totals AS t
    CROSS JOIN sources.rules AS r
    LEFT JOIN listed AS l USING (trace_row, reading)
),

measured AS (
    SELECT
        *, greatest(len(bins) - 1, 0) AS degrees,
        coalesce(list_sum(list_transform(bins, lambda b: (b.drawn - b.due) ^ 2 / b.due)), 0) AS chi2,
        CASE
            WHEN len(bins) > 1
                THEN 0.5 * list_sum(list_transform(bins, lambda b: abs(b.drawn - b.due))) / nullif(used, 0)
            ELSE abs(rest_drawn - rest_due) / nullif(used, 0)
        END AS distance
    FROM merged
),

tested AS (
    SELECT
        m.*, r.draws_alpha AS alpha,
        CASE
            WHEN used = 0 THEN 1.0
            WHEN degrees > 0 THEN chi2_upper_tail(chi2, degrees)
            ELSE binomial_p(rest_drawn, used, others)
        END AS p_fit,
        CASE WHEN used > 0 THEN pow(1 - least(silent, 1), used) ELSE 1.0 END AS p_silent,
        binomial_upper_tail(left_out, n, border_share) AS p_border,
        least(1.0, 3 * least(p_fit, p_silent, p_border)) AS p_value,
        CASE
            WHEN used = 0 THEN NULL
            WHEN degrees > 0 THEN chi2_power(degrees, used, r.draws_alpha / 3, r.draws_power)
            ELSE 2 * binomial_power(used, others, r.draws_alpha / 3, r.draws_power)
        END AS least_effect,
        NOT coalesce(isfinite(chi2) AND isfinite(p_fit) AND isfinite(p_silent) AND isfinite(p_border), false) AS broken,
        -- Where only ties of the best may come, their shares among themselves are nobody's business.
        NOT is_fixed AND (
            used < r.min_used_share * n OR NOT coalesce(isfinite(least_effect), false)
            OR degrees = 0 AND others > 1 - r.min_used_share
        ) AS powerless
    FROM measured AS m
    CROSS JOIN sources.rules AS r
),

best AS (
    SELECT * FROM tested
    QUALIFY row_number() OVER (
        PARTITION BY trace_row ORDER BY broken, impossible > 0 OR p_value < alpha, powerless, p_value DESC, reading
    ) = 1
),

judged AS (
    SELECT *, NOT broken AND (impossible > 0 OR p_value < alpha) AS is_rejected FROM best
),

rejected AS (
    SELECT b.trace_row, t.payload_digest, a.asked
    FROM judged AS b
    INNER JOIN traces AS t ON b.trace_row = t.rowid
    INNER JOIN staging.pairs AS p ON p.run_id = b.run_id AND p.cell_id = b.cell_id AND p.node_id = b.node_id
    INNER JOIN staging.sampling_asked AS a ON a.run_id = b.run_id AND a.suite = p.suite AND a.case_id = b.case_id
    WHERE b.is_rejected
),

-- Equal engines bring equal payloads: each is explained once.
explained AS (
    SELECT
        x.payload_digest, x.asked,
        nullif(likely_sampler(
            t.top_ids[1], t.ref_topk_logprobs[1], t.value, x.asked,
            r.hint_least_p, r.min_expected_draws, r.hint_alike
        ), '') AS looks_like
    FROM (SELECT payload_digest, asked, min(trace_row) AS trace_row FROM rejected GROUP BY ALL) AS x
    INNER JOIN traces AS t ON x.trace_row = t.rowid
    CROSS JOIN sources.rules AS r
),

hints AS (
    SELECT r.trace_row, e.looks_like
    FROM rejected AS r
    INNER JOIN explained AS e USING (payload_digest, asked)
)

SELECT
    b.run_id, b.cell_id, b.node_id, b.attempt, b.case_id, b.repeat, b.trace_row, b.reading, b.n, b.used,
    b.chi2,
    b.degrees,
    b.p_fit,
    b.p_silent,
    b.p_border,
    b.p_value,
    b.silent,
    b.impossible,
    b.worst_cut,
    b.rest_drawn,
    b.rest_due,
    b.left_out, b.border_share, b.broken, b.powerless, b.is_fixed,
    CASE WHEN isfinite(b.least_effect) THEN b.least_effect END AS detectable,
    -- What came although it was cut has no share of the expected.
    greatest(
        coalesce(b.distance, 0), coalesce(b.silent, 0), b.impossible / nullif(b.n, 0),
        coalesce(b.left_out / nullif(b.n, 0) - b.border_share, 0)
    ) AS effect,
    b.is_rejected AS rejected, h.looks_like
FROM judged AS b
LEFT JOIN hints AS h USING (trace_row)
