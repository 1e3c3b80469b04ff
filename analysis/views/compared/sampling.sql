-- One row is a probe of a `sampling` case in an attempt, next to what was asked of the sampler.
--
-- Whether the sampler does what was asked, and nothing else, to the engine's own raw numbers.
--
-- draws: one test a case (`numeric.draw_tests`), with a chance of a false alarm of `draws_alpha`; what came
-- although it was cut is a mismatch by itself, and has none. A match says what it would have shown; a test
-- that could show nothing is none.
-- greedy: every token must be the best one (`numeric.greedy_tokens`), but for ties: within `tie_nats` or what
-- benign configurations flip. Deterministic; without a floor only a lead of `sure_lead_nats` decides.
-- seed: equal seeds give equal answers; other seeds give others, unless that answer is so probable that
-- chance makes it again: its probability under the raw numbers says so, with `draws_alpha` for two. With
-- another temperature or with cuts that is bounded from both sides (`most_log`, `least_log`); what lies
-- between cannot be told and is no truth.
WITH drawn AS (
    SELECT
        s.*,
        coalesce(
            w.defect, CASE WHEN d.trace_row IS NULL OR d.broken THEN 'the test of the draws gives no finite number' END
        ) AS defect,
        d.n, d.used, d.p_value, d.impossible, d.worst_cut, d.rejected,
        d.degrees, d.rest_drawn, d.rest_due, d.effect, d.detectable, d.looks_like, d.reading,
        d.p_fit, d.p_silent, d.p_border, d.silent, d.left_out, d.border_share, d.powerless, d.is_fixed,
        w.draws AS asked_draws, r.draws_power, w.told_draws
    FROM staging.self_traces AS s
    CROSS JOIN sources.rules AS r
    INNER JOIN numeric.draw_traces AS w ON w.trace_row = s.trace_row
    LEFT JOIN numeric.draw_tests AS d ON d.trace_row = s.trace_row
    WHERE s.stage = 'sampling' AND s.probe = 'draws' AND s.gap IS NULL AND s.judged
),

draws AS (
    SELECT
        *,
        CASE
            WHEN defect IS NOT NULL OR n IS DISTINCT FROM told_draws OR n < asked_draws OR n = 0 THEN 'error'
            WHEN rejected THEN 'mismatch'
            WHEN powerless THEN 'no_truth'
            ELSE 'match'
        END AS outcome,
        CASE
            WHEN defect IS NOT NULL THEN defect
            WHEN n IS DISTINCT FROM told_draws OR n < asked_draws OR n = 0
                THEN format('only {} of {} draws were returned', n, asked_draws)
            WHEN rejected THEN
                CASE
                    WHEN impossible > 0
                        THEN format('{} of {} draws are tokens that the request excludes', impossible, n)
                            || CASE
                                WHEN worst_cut >= 0 THEN format(' (most often {})', worst_cut)
                                ELSE ' (not among the stored tokens)'
                            END
                    WHEN p_border < least(p_fit, p_silent)
                        THEN format(
                            '{} of {} draws lie on the border of the request, which holds at most {:.2g} %, p = {:.2g}',
                            left_out,
                            n,
                            100 * border_share,
                            greatest(p_value, 1e-300)
                        )
                    WHEN p_silent < p_fit
                        THEN format(
                            'none of {} draws is one of the least probable tokens, which hold {:.2g} % of '
                            || 'the mass, p = {:.2g}',
                            n,
                            100 * silent,
                            greatest(p_value, 1e-300)
                        )
                    ELSE format(
                        '{} draws do not follow the requested distribution: {:.2g} % of them are misplaced, p = {:.2g}',
                        n,
                        100 * effect,
                        greatest(p_value, 1e-300)
                    )
                END || coalesce('; ' || looks_like, '')
            WHEN powerless AND used < n
                THEN format(
                    '{} of {} draws fell where a tie or an unknown tail hides the expected count: too few '
                    || 'are left to test',
                    n - used,
                    n
                )
            WHEN powerless THEN format('{} draws are too few to show anything', n)
            WHEN degrees > 0
                THEN format(
                    '{} draws: a shift of w = {:.2g} would be detected with power {}', n, detectable, draws_power
                )
            WHEN used = 0 THEN format('{} draws, all at a tie', n)
            WHEN is_fixed THEN format('{} draws of the one token that the request allows', n)
            ELSE format(
                '{} draws: {} besides the most probable token, {:.2g} expected; a share {:.2g} larger would '
                || 'be detected with power {}',
                n, rest_drawn::BIGINT, rest_due, detectable / 2, draws_power
            )
        END
        || CASE WHEN defect IS NULL AND NOT rejected AND reading <> '' THEN format(', {}', reading) ELSE '' END
            AS detail
    FROM drawn
),

answers AS (
    SELECT
        trace_row, definition, any_value(accepted) AS accepted, count(*) AS steps,
        count(*) FILTER (WHERE violates) AS violations, count(*) FILTER (WHERE unknown) AS unknowns,
        max(coalesce(ahead, 1e9)) FILTER (WHERE violates) AS worst,
        min(step) FILTER (WHERE violates) AS first_step,
        arg_min(taken, step) FILTER (WHERE violates) AS first_taken,
        arg_min(best, step) FILTER (WHERE violates) AS first_best,
        arg_min(ahead, step) FILTER (WHERE violates) AS first_ahead,
        coalesce(bool_and(best_seen_before) FILTER (WHERE violates), false) AS avoids_seen
    FROM numeric.greedy_tokens AS g
    INNER JOIN staging.self_traces AS s USING (run_id, cell_id, node_id, attempt, case_id, repeat, trace_row)
    GROUP BY ALL
),

greedy_best AS (
    SELECT * FROM answers
    WHERE accepted
    QUALIFY row_number() OVER (PARTITION BY trace_row ORDER BY violations, worst, definition) = 1
),

-- Which other definition the answer follows to the last token.
greedy_hints AS (
    SELECT
        trace_row,
        CASE
            WHEN bool_or(definition = 'without any penalty') THEN 'it fits without the requested penalty'
            WHEN bool_or(starts_with(definition, 'over'))
                THEN 'it fits a penalty ' || min(definition) FILTER (WHERE starts_with(definition, 'over'))
            ELSE 'it fits ' || min_by(definition, definition)
        END AS hint
    FROM answers
    WHERE NOT accepted AND violations = 0
    GROUP BY trace_row
),

greedy AS (
    SELECT
        s.*, g.violations, g.steps,
        a.repetition_penalty <> 1 OR a.presence_penalty <> 0 OR a.frequency_penalty <> 0 AS penalised,
        CASE
            WHEN g.trace_row IS NULL THEN 'error'
            WHEN g.violations = 0 AND g.unknowns > 0 THEN 'no_truth'
            WHEN g.violations = 0 THEN 'match'
            WHEN f.max_flip_margin IS NULL AND g.worst <= r.sure_lead_nats THEN 'no_truth'
            ELSE 'mismatch'
        END AS outcome,
        g.violations / g.steps AS effect,
        -- Nothing is drawn: one violation shows.
        0.0 AS detectable,
        CASE
            WHEN g.trace_row IS NULL THEN 'there is no answer, or no finite distribution beside each of its tokens'
            WHEN g.violations = 0 AND g.unknowns > 0
                THEN 'the best may have been a token whose log-probability was not stored'
            WHEN g.violations = 0
                THEN CASE WHEN g.definition <> 'as asked' THEN format('it penalises {}', g.definition) END
            ELSE format('at token {} it took {} although {} was ahead', g.first_step, g.first_taken, g.first_best)
                || coalesce(format(' by {:.2g} nats', g.first_ahead), '')
                || CASE
                    WHEN f.max_flip_margin IS NULL AND g.worst <= r.sure_lead_nats
                        THEN '; without a floor this may be a tie'
                    WHEN h.hint IS NOT NULL AND NOT penalised AND g.avoids_seen
                        THEN format(
                            '; all {} violations avoid earlier tokens: looks like a repetition penalty that '
                            || 'was not requested ({})',
                            g.violations,
                            h.hint
                        )
                    WHEN h.hint IS NOT NULL THEN '; ' || h.hint
                    WHEN g.avoids_seen AND NOT penalised
                        THEN format(
                            '; all {} violations avoid earlier tokens: looks like a repetition penalty that '
                            || 'was not requested',
                            g.violations
                        )
                    WHEN g.violations > 1
                        THEN format(
                            '; {} of {} tokens are not the most probable: looks sampled, not greedy',
                            g.violations,
                            g.steps
                        )
                    ELSE ''
                END
        END AS detail
    FROM staging.self_traces AS s
    CROSS JOIN sources.rules AS r
    INNER JOIN staging.pairs AS p ON p.run_id = s.run_id AND p.cell_id = s.cell_id AND p.node_id = s.node_id
    INNER JOIN staging.sampling_asked AS a ON a.run_id = s.run_id AND a.suite = p.suite AND a.case_id = s.case_id
    LEFT JOIN numeric.pair_floors AS f ON f.run_id = s.run_id AND f.cell_id = s.cell_id AND f.node_id = s.node_id
    LEFT JOIN greedy_best AS g ON g.trace_row = s.trace_row
    LEFT JOIN greedy_hints AS h ON h.trace_row = s.trace_row
    WHERE s.stage = 'sampling' AND s.probe = 'greedy' AND s.gap IS NULL AND s.judged
),

seeded AS (
    SELECT
        s.*, t.output_ids, t.logprobs::DOUBLE[] AS logprobs, t.ref_topk_logprobs AS tops, t.tail_logprob AS tails
    FROM staging.self_traces AS s
    INNER JOIN traces AS t ON s.trace_row = t.rowid
    WHERE s.stage = 'sampling' AND s.probe = 'seed' AND s.gap IS NULL
),

-- The first answer's probability, step by step: with the least and the most that its softmax can be a
-- share of. After cuts at least the best token is left; what was not stored is bounded as in `numeric.draw_odds`.
chances AS (
    SELECT
        s.trace_row, len(s.logprobs) = len(s.output_ids) AND NOT (
            q.biased OR q.repetition_penalty <> 1 OR q.presence_penalty <> 0 OR q.frequency_penalty <> 0 OR q.unreadable
        ) AND q.temperature > 0 AS is_simple,
        q.temperature AS warmth, q.top_k > 0 OR q.top_p < 1 OR q.min_p > 0 AS cuts,
        list_bool_and(list_transform(s.logprobs, lambda p: coalesce(isfinite(p), false))) AS is_finite,
        list_sum(s.logprobs) / q.temperature AS own,
        CASE
            WHEN len(s.tops) = len(s.output_ids) AND len(s.tails) = len(s.output_ids)
                THEN list_transform(
                    list_zip(s.tops, s.tails),
                    lambda z: {
                        best: z[1][1]::DOUBLE / q.temperature,
                        kept: list_sum(list_transform(z[1], lambda p: exp(p::DOUBLE / q.temperature))),
                        tail: exp(z[2]::DOUBLE + (1 / q.temperature - 1) * least(z[2]::DOUBLE, z[1][-1]::DOUBLE))
                    }
                )
        END AS steps
    FROM seeded AS s
    INNER JOIN staging.pairs AS p ON p.run_id = s.run_id AND p.cell_id = s.cell_id AND p.node_id = s.node_id
    INNER JOIN staging.sampling_asked AS q ON q.run_id = s.run_id AND q.suite = p.suite AND q.case_id = s.case_id
    WHERE s.repeat = 0
),

bounds AS (
    SELECT
        trace_row, is_simple AND NOT is_finite AS is_broken,
        CASE
            WHEN NOT is_simple THEN NULL
            WHEN warmth = 1 AND NOT cuts THEN own
            WHEN cuts THEN own - list_sum(list_transform(steps, lambda z: z.best))
            ELSE
                own
                - list_sum(list_transform(steps, lambda z: ln(z.kept + CASE WHEN warmth > 1 THEN z.tail ELSE 0 END)))
        END AS at_most,
        CASE
            WHEN NOT is_simple THEN NULL
            WHEN warmth = 1 THEN own
            WHEN warmth < 1 THEN own - list_sum(list_transform(steps, lambda z: ln(z.kept + z.tail)))
        END AS at_least
    FROM chances
),

-- Two rows a case: the same seed again (repeat 1), and the others (repeat 2, which speaks for 3 too).
seeds AS (
    SELECT
        b.* EXCLUDE (logprobs, tops, tails), a.output_ids AS first_ids, c.output_ids AS third_ids,
        c.trace_row IS NULL AS no_third,
        a.trace_row IS NULL AS no_first, coalesce(h.is_broken, false) AS is_broken,
        CASE WHEN isfinite(h.at_most) THEN 2 * h.at_most END AS most_log,
        CASE WHEN isfinite(h.at_least) THEN 2 * h.at_least END AS least_log,
        q.temperature = 0 OR q.top_k = 1 AS is_fixed, r.draws_alpha,
        list_min(list_filter(
            range(1, greatest(len(a.output_ids), len(b.output_ids)) + 1),
            lambda i: a.output_ids[i] IS DISTINCT FROM b.output_ids[i]
        )) AS differs_at
    FROM seeded AS b
    CROSS JOIN sources.rules AS r
    INNER JOIN staging.pairs AS p ON p.run_id = b.run_id AND p.cell_id = b.cell_id AND p.node_id = b.node_id
    INNER JOIN staging.sampling_asked AS q ON q.run_id = b.run_id AND q.suite = p.suite AND q.case_id = b.case_id
    LEFT JOIN seeded AS a
        ON a.run_id = b.run_id AND a.cell_id = b.cell_id AND a.node_id = b.node_id
        AND a.attempt = b.attempt AND a.case_id = b.case_id AND a.repeat = 0
    LEFT JOIN seeded AS c
        ON c.run_id = b.run_id AND c.cell_id = b.cell_id AND c.node_id = b.node_id
        AND c.attempt = b.attempt AND c.case_id = b.case_id AND c.repeat = 3
    LEFT JOIN bounds AS h ON h.trace_row = a.trace_row
    WHERE b.repeat IN (1, 2) AND b.judged
),

seed AS (
    SELECT
        *,
        CASE
            WHEN no_first OR no_third OR output_ids IS NULL OR first_ids IS NULL THEN 'error'
            WHEN repeat = 1 THEN CASE WHEN differs_at IS NULL THEN 'match' ELSE 'mismatch' END
            WHEN differs_at IS NOT NULL OR third_ids IS DISTINCT FROM first_ids OR is_fixed THEN 'match'
            WHEN is_broken THEN 'error'
            WHEN most_log <= ln(draws_alpha) THEN 'mismatch'
            WHEN least_log > ln(draws_alpha) THEN 'match'
            ELSE 'no_truth'
        END AS outcome,
        CASE
            WHEN no_first OR no_third OR output_ids IS NULL OR first_ids IS NULL THEN 'not all answers were returned'
            WHEN repeat = 1 THEN
                CASE WHEN differs_at IS NOT NULL THEN format(
                    'the same seed gives a different answer from token {} on', differs_at
                ) END
            WHEN differs_at IS NOT NULL OR third_ids IS DISTINCT FROM first_ids THEN NULL
            WHEN is_fixed THEN 'other seeds give the same answer, because the request leaves no randomness'
            WHEN is_broken THEN 'the log-probabilities of the answer are not finite'
            WHEN most_log <= ln(draws_alpha)
                THEN format(
                    'three seeds give the same answer, which happens by chance with p = {:.2g}{}: the seed '
                    || 'seems to be ignored',
                    exp(most_log),
                    CASE WHEN most_log > least_log OR least_log IS NULL THEN ' at most' ELSE '' END
                )
            WHEN least_log > ln(draws_alpha)
                THEN format(
                    'other seeds give the same answer, which is so probable that it repeats by chance (p = {:.2g})',
                    exp(least_log)
                )
            ELSE 'three seeds give the same answer; either it is very probable or the seed is ignored'
        END AS detail
    FROM seeds
),

everything AS (
    SELECT * FROM draws
    UNION ALL BY NAME
    SELECT * FROM greedy
    UNION ALL BY NAME
    SELECT * FROM seed
    UNION ALL BY NAME
    SELECT *, gap AS outcome, why AS detail FROM staging.self_traces WHERE stage = 'sampling' AND gap IS NOT NULL
)

SELECT
    run_id, cell_id, node_id, attempt, judged, later, stage, probe, case_id, case_digest, tags, observed,
    repeat, 'self' AS truth, NULL::VARCHAR AS reference_id, outcome,
    CASE probe
        WHEN 'draws' THEN 'draws as asked'
        WHEN 'greedy' THEN 'the best token each time'
        ELSE 'an answer by its seed'
    END AS expected,
    CASE outcome WHEN 'mismatch' THEN 'otherwise' WHEN 'match' THEN expected END AS seen,
    detail, payload_digest, trace_row, effect, detectable, violations AS mismatches,
    coalesce(effect, 0) AS severity
FROM everything
