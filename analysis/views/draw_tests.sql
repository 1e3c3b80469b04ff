-- Each `draws` trace as one test: χ² over the tokens expected at least `min_expected_draws` times, the others
-- pooled; whether the improbable ones came at all; and what came although it was cut. Of the readings of a
-- request (`draw_odds`) the one that fits best is taken.
--
-- Where the last tokens in order hold the mass m and none of n draws was one of them, p = (1 - m)^n: the
-- exact chance of that, so a cut that nobody asked for is seen also where χ² pools what it cuts. p_value is
-- twice the lesser of both p (Bonferroni).
--
-- What is pooled and still too rare joins the rarest of the others. If then nothing is left to compare
-- (one token holds nearly all), the rare ones are counted: their number is binomial.
--
-- detectable: the least effect (Cohen's w) that this very test shows with power `draws_power`. effect: the
-- total variation distance over the same bins.
WITH binned AS (
    SELECT
        o.run_id, o.cell_id, o.node_id, o.attempt, o.case_id, o.repeat, o.trace_row, o.reading,
        any_value(o.used) AS used, any_value(o.silent) AS silent,
        coalesce(sum(o.drawn), 0) AS n,
        coalesce(sum(o.drawn) FILTER (WHERE o.standing = 'cut'), 0) AS impossible,
        coalesce(sum(o.drawn) FILTER (WHERE o.standing = 'border'), 0) AS left_out,
        max_by(o.token_id, o.drawn) FILTER (WHERE o.standing = 'cut') AS worst_cut,
        list({drawn: o.drawn::DOUBLE, due: o.expected_draws} ORDER BY o.expected_draws DESC, o.token_id)
            FILTER (WHERE o.expected_draws >= r.min_expected_draws) AS bins,
        any_value(r.min_expected_draws) AS least
    FROM draw_odds AS o
    CROSS JOIN rules AS r
    GROUP BY ALL
),

pooled AS (
    SELECT
        *, coalesce(bins, []) AS single,
        used - coalesce(list_sum(list_transform(bins, lambda b: b.drawn)), 0) AS rest_drawn,
        greatest(used - coalesce(list_sum(list_transform(bins, lambda b: b.due)), 0), 0) AS rest_due
    FROM binned
),

merged AS (
    SELECT
        * EXCLUDE (single, bins),
        CASE
            WHEN rest_due >= least THEN list_append(single, {drawn: rest_drawn::DOUBLE, due: rest_due::DOUBLE})
            WHEN len(single) = 0 THEN []
            ELSE list_append(
                single[:-2], {drawn: single[-1].drawn + rest_drawn, due: single[-1].due + rest_due}
            )
        END AS bins
    FROM pooled
),

measured AS (
    SELECT
        *, greatest(len(bins) - 1, 0) AS degrees,
        coalesce(list_sum(list_transform(bins, lambda b: (b.drawn - b.due) ^ 2 / b.due)), 0) AS chi2,
        CASE
            WHEN len(bins) > 1 THEN 0.5 * list_sum(list_transform(bins, lambda b: abs(b.drawn - b.due))) / nullif(used, 0)
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
            WHEN rest_due > 1e-9 * used THEN binomial_p(rest_drawn, used, rest_due / used)
            ELSE 1.0
        END AS p_fit,
        CASE WHEN used > 0 THEN pow(1 - silent, used) ELSE 1.0 END AS p_silent,
        least(1.0, 2 * least(p_fit, p_silent)) AS p_value,
        CASE WHEN degrees > 0 THEN chi2_power(degrees, used, r.draws_alpha, r.draws_power) END AS detectable
    FROM measured AS m
    CROSS JOIN rules AS r
),

best AS (
    SELECT * FROM tested
    QUALIFY row_number() OVER (
        PARTITION BY trace_row ORDER BY impossible > 0, p_value DESC, reading
    ) = 1
),

judged AS (
    SELECT *, impossible > 0 OR p_value < alpha AS is_rejected FROM best
),

rejected AS (
    SELECT b.trace_row, t.payload_digest, a.asked
    FROM judged AS b
    INNER JOIN traces AS t ON b.trace_row = t.rowid
    INNER JOIN pairs AS p ON p.run_id = b.run_id AND p.cell_id = b.cell_id AND p.node_id = b.node_id
    INNER JOIN sampling_asked AS a ON a.run_id = b.run_id AND a.suite = p.suite AND a.case_id = b.case_id
    WHERE b.is_rejected
),

-- Equal engines bring equal payloads: each is explained once.
explained AS (
    SELECT
        x.payload_digest, x.asked,
        nullif(likely_sampler(t.top_ids[1], t.ref_topk_logprobs[1], t.value, x.asked), '') AS looks_like
    FROM (SELECT payload_digest, asked, min(trace_row) AS trace_row FROM rejected GROUP BY ALL) AS x
    INNER JOIN traces AS t ON x.trace_row = t.rowid
),

hints AS (
    SELECT r.trace_row, e.looks_like
    FROM rejected AS r
    INNER JOIN explained AS e USING (payload_digest, asked)
)

SELECT
    b.run_id, b.cell_id, b.node_id, b.attempt, b.case_id, b.repeat, b.trace_row, b.reading, b.n, b.used,
    b.chi2, b.degrees, b.p_fit, b.p_silent, b.p_value, b.silent, b.impossible, b.worst_cut, b.rest_drawn, b.rest_due, b.detectable,
    -- What came although it was cut has no share of the expected.
    greatest(coalesce(b.distance, 0), coalesce(b.silent, 0), b.impossible / nullif(b.n, 0)) AS effect,
    b.is_rejected AS rejected, h.looks_like
FROM judged AS b
LEFT JOIN hints AS h USING (trace_row)
