-- One row is a token of a `draws` trace under one reading of the request.
--
-- Draws of the first token against the distribution that was asked for, token by token: those drawn, and
-- those expected at least once.
--
-- Expected: the engine's own raw log-probabilities, changed in the order of OpenAI-style engines: bias,
-- penalties, temperature, top_k, top_p, min_p, renormalised after each. Engines legitimately order this
-- otherwise: llama.cpp cuts before its temperature, vLLM applies min_p before top_p, and some count the
-- prompt for presence and frequency. Each order that makes a difference is a `reading`; the request counts
-- as honoured if one of them fits.
--
-- Every cut keeps the first of the tokens in order. standing: `kept`, `cut` (it may not occur at all),
-- `border`: whether it is kept hangs on less than a tie, so it is left out of both sides, which is exact:
-- the others' odds among themselves do not depend on it. The tail is what was not stored of a large
-- vocabulary (token_id -1); at another temperature than 1 its mass is not known, so it is a border too.
--
-- used: draws of kept tokens. silent: the mass of those that come after the last one drawn. others: of all
-- but the first. border_share: the most of all draws that the border can hold; 1 where nothing bounds it.
-- bin: the tokens that are counted together, `bin_due` how often they are expected; every bin has a row.
WITH requests AS (
    SELECT
        * EXCLUDE (counts, biases, prompt_ids, ids, logps),
        -- At temperature 0 only the most probable may come.
        CASE WHEN temperature > 0 THEN temperature ELSE 1 END AS warmth,
        CASE WHEN temperature = 0 THEN 1 WHEN top_k > 0 THEN top_k ELSE 1e18::BIGINT END AS most,
        temperature = 0 OR top_k > 0 OR top_p < 1 OR min_p > 0 AS cuts,
        len(ids) AS known, list_min(logps) AS last_logp
    FROM numeric.draw_traces
    WHERE defect IS NULL
),

readings AS (
    SELECT
        trace_row, late, early, prompt_too, late::INTEGER + 2 * early::INTEGER + 4 * prompt_too::INTEGER AS variant,
        concat_ws(
            ', ', CASE WHEN late THEN 'temperature last' END, CASE WHEN early THEN 'min_p before top_p' END,
            CASE WHEN prompt_too THEN 'the prompt penalised too' END
        ) AS reading
    FROM requests
    CROSS JOIN (VALUES (false), (true)) AS x (late)
    CROSS JOIN (VALUES (false), (true)) AS y (early)
    CROSS JOIN (VALUES (false), (true)) AS z (prompt_too)
    WHERE (NOT late OR warmth <> 1 AND (top_p < 1 OR min_p > 0))
        AND (NOT early OR top_p < 1 AND min_p > 0)
        AND (NOT prompt_too OR presence_penalty <> 0 OR frequency_penalty <> 0)
),

counts AS (
    SELECT trace_row, c.token_id, c.drawn
    FROM (SELECT trace_row, unnest(counts) AS c FROM numeric.draw_traces WHERE defect IS NULL)
),

biases AS (
    SELECT trace_row, b.token_id, b.bias
    FROM (SELECT trace_row, unnest(biases) AS b FROM numeric.draw_traces WHERE defect IS NULL)
),

prompts AS (
    SELECT trace_row, token_id, count(*) AS times
    FROM (
        SELECT trace_row, unnest(prompt_ids) AS token_id
        FROM numeric.draw_traces
        WHERE defect IS NULL AND (repetition_penalty <> 1 OR presence_penalty <> 0 OR frequency_penalty <> 0)
    )
    GROUP BY ALL
),

stored AS (
    SELECT trace_row, unnest(ids) AS token_id, unnest(logps) AS logp FROM numeric.draw_traces WHERE defect IS NULL
),

-- Draws of ids that are not among those stored.
foreigners AS (
    SELECT c.trace_row, sum(c.drawn) AS drawn
    FROM counts AS c
    ANTI JOIN stored AS k USING (trace_row, token_id)
    GROUP BY c.trace_row
),

changed AS (
    SELECT
        k.trace_row, g.variant, k.token_id, coalesce(c.drawn, 0) AS drawn,
        CASE
            WHEN o.times IS NULL THEN k.logp + coalesce(b.bias, 0)
            ELSE
                CASE WHEN k.logp + coalesce(b.bias, 0) + coalesce(q.lse, 0) > 0
                    THEN (k.logp + coalesce(b.bias, 0) + coalesce(q.lse, 0)) / q.repetition_penalty
                    ELSE (k.logp + coalesce(b.bias, 0) + coalesce(q.lse, 0)) * q.repetition_penalty
                END
                - CASE WHEN g.prompt_too THEN q.presence_penalty + q.frequency_penalty * o.times ELSE 0 END
                - coalesce(q.lse, 0)
        END AS x
    FROM stored AS k
    INNER JOIN readings AS g USING (trace_row)
    INNER JOIN requests AS q USING (trace_row)
    LEFT JOIN counts AS c ON c.trace_row = k.trace_row AND c.token_id = k.token_id
    LEFT JOIN biases AS b ON b.trace_row = k.trace_row AND b.token_id = k.token_id
    LEFT JOIN prompts AS o ON o.trace_row = k.trace_row AND o.token_id = k.token_id
),

bests AS (
    SELECT trace_row, variant, max(x) AS best FROM changed GROUP BY ALL
),

weighed AS (
    SELECT
        n.*, exp((n.x - m.best) / CASE WHEN n.variant & 1 = 1 THEN 1 ELSE q.warmth END) AS weight,
        exp((n.x - m.best) / q.warmth) AS odds
    FROM changed AS n
    INNER JOIN bests AS m USING (trace_row, variant)
    INNER JOIN requests AS q USING (trace_row)
),

placed AS (
    SELECT *, row_number() OVER best_first AS place, sum(weight) OVER best_first - weight AS better
    FROM weighed
    WINDOW best_first AS (
        PARTITION BY trace_row, variant ORDER BY x DESC, token_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
),

-- The mass m of the tail is known at temperature 1, and that none of its tokens is above the least one
-- stored, u. At T the sum of their odds^(1/T) is m·min(m, u)^(1/T - 1) at most where T < 1, and at least where
-- T > 1; towards the other side nothing but the number of its tokens would bound it, which nobody stored.
tails AS (
    SELECT
        m.trace_row, m.variant, m.best, CASE WHEN m.variant & 1 = 1 THEN 1 ELSE q.warmth END AS warmth_of_cuts,
        exp(q.tail - m.best) AS mass,
        CASE
            WHEN q.tail = '-inf'::DOUBLE OR q.warmth = 1 THEN exp(q.tail - m.best)
            ELSE exp(q.tail - m.best + (1 / q.warmth - 1) * (least(q.tail, q.last_logp) - m.best))
        END AS bound
    FROM bests AS m
    INNER JOIN requests AS q USING (trace_row)
),

-- What a top_p is a share of: all that top_k, and perhaps min_p, leave. least_whole and most_whole: with as
-- little and as much of the tail as there may be.
wholes AS (
    SELECT
        w.trace_row, w.variant,
        sum(w.weight) FILTER (WHERE w.place <= q.most AND (w.variant & 2 = 0 OR w.weight >= q.min_p)) AS here,
        any_value(CASE
            WHEN q.most < 1e18::BIGINT OR w.variant & 2 <> 0 THEN 0
            WHEN t.warmth_of_cuts = 1 THEN t.mass
            WHEN t.warmth_of_cuts < 1 THEN 0
            ELSE t.bound
        END) AS tail_least,
        any_value(CASE
            WHEN q.most <= q.known THEN 0
            WHEN t.warmth_of_cuts = 1 THEN t.mass
            WHEN t.warmth_of_cuts < 1 OR t.mass = 0 THEN t.bound
            ELSE 'inf'::DOUBLE
        END) AS tail_most,
        any_value(exp((q.last_logp - t.best) / t.warmth_of_cuts)) AS last_weight, any_value(q.min_p) AS least_p
    FROM placed AS w
    INNER JOIN tails AS t USING (trace_row, variant)
    INNER JOIN requests AS q USING (trace_row)
    GROUP BY w.trace_row, w.variant
),

bounded AS (
    SELECT
        trace_row, variant, here + tail_least AS least_whole,
        here + CASE WHEN variant & 2 <> 0 AND last_weight < least_p THEN 0 ELSE tail_most END AS most_whole
    FROM wholes
),

inside AS (
    SELECT
        w.trace_row, w.variant, w.token_id, w.place, w.drawn, w.x, w.odds, q.tie,
        w.place = 1 OR (
            w.place <= q.most
            AND w.weight >= q.min_p * exp(q.tie / CASE WHEN w.variant & 1 = 1 THEN 1 ELSE q.warmth END)
            AND (q.top_p >= 1 OR w.better / t.least_whole < q.top_p - q.tie * r.tie_share)
        ) AS surely,
        w.place = 1 OR (
            w.place <= q.most
            AND w.weight >= q.min_p * exp(-q.tie / CASE WHEN w.variant & 1 = 1 THEN 1 ELSE q.warmth END)
            AND (q.top_p >= 1 OR w.better / t.most_whole < q.top_p + q.tie * r.tie_share)
        ) AS perhaps
    FROM placed AS w
    CROSS JOIN sources.rules AS r
    INNER JOIN bounded AS t USING (trace_row, variant)
    INNER JOIN requests AS q USING (trace_row)
),

edges AS (
    SELECT
        trace_row, variant, max(x) FILTER (WHERE NOT surely) AS first_out, min(x) FILTER (WHERE perhaps) AS last_in,
        max(x) AS best, bool_and(perhaps) AS nothing_cut
    FROM inside
    GROUP BY ALL
),

standing AS (
    SELECT
        i.trace_row, i.variant, i.token_id, i.place, i.drawn, i.odds,
        CASE
            WHEN i.surely AND NOT coalesce(i.x - e.first_out <= i.tie, false) THEN 'kept'
            WHEN NOT i.perhaps AND e.last_in - i.x > i.tie THEN 'cut'
            ELSE 'border'
        END AS standing
    FROM inside AS i
    INNER JOIN edges AS e USING (trace_row, variant)
    UNION ALL
    SELECT
        e.trace_row, e.variant, -1, q.known + 1,
        coalesce(f.drawn, 0),
        CASE WHEN q.warmth > 1 AND t.mass > 0 THEN 'inf'::DOUBLE ELSE t.bound END,
        CASE
            WHEN q.tail = '-inf'::DOUBLE OR NOT e.nothing_cut THEN 'cut'
            WHEN q.cuts OR q.warmth <> 1 THEN 'border'
            ELSE 'kept'
        END
    FROM edges AS e
    INNER JOIN requests AS q USING (trace_row)
    INNER JOIN tails AS t USING (trace_row, variant)
    LEFT JOIN foreigners AS f USING (trace_row)
),

lasts AS (
    SELECT trace_row, variant, max(place) AS last_place
    FROM standing
    WHERE standing = 'kept' AND drawn > 0
    GROUP BY ALL
),

totals AS (
    SELECT
        s.trace_row, s.variant, sum(s.odds) FILTER (WHERE s.standing = 'kept') AS whole,
        sum(s.drawn) FILTER (WHERE s.standing = 'kept') AS used,
        sum(s.odds) FILTER (WHERE s.standing = 'border') AS border,
        coalesce(sum(s.odds) FILTER (WHERE s.standing = 'kept' AND s.place > 1), 0) AS others,
        coalesce(sum(s.odds) FILTER (WHERE s.standing = 'kept' AND s.place > l.last_place), 0) AS unseen
    FROM standing AS s
    LEFT JOIN lasts AS l USING (trace_row, variant)
    GROUP BY ALL
),

due AS (
    SELECT
        s.* EXCLUDE (odds),
        CASE WHEN s.standing = 'kept' THEN t.used * s.odds / t.whole ELSE 0.0 END AS expected_draws,
        coalesce(t.used, 0)::BIGINT AS used, t.unseen / t.whole AS silent, t.others / t.whole AS others,
        CASE
            WHEN t.border IS NULL THEN 0.0
            WHEN t.whole IS NULL OR t.border = 'inf'::DOUBLE THEN 1.0
            ELSE t.border / (t.whole + t.border)
        END AS border_share
    FROM standing AS s
    INNER JOIN totals AS t USING (trace_row, variant)
),

-- The rarer ones in order, as many to a bin as span twice the least number of draws: as each is expected
-- less often than that, every full bin is expected at least that often.
grouped_tokens AS (
    SELECT
        d.*,
        CASE
            WHEN d.standing <> 'kept' THEN NULL
            WHEN d.expected_draws >= r.min_expected_draws THEN -d.place
            ELSE floor((sum(d.expected_draws) OVER rarer - d.expected_draws) / (2 * r.min_expected_draws))::BIGINT
        END AS bin
    FROM due AS d
    CROSS JOIN sources.rules AS r
    WINDOW rarer AS (
        PARTITION BY d.trace_row, d.variant, d.standing, d.expected_draws >= r.min_expected_draws
        ORDER BY d.place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    )
),

filled AS (
    SELECT
        *, sum(expected_draws) OVER (PARTITION BY trace_row, variant, bin) AS bin_due,
        row_number() OVER (PARTITION BY trace_row, variant, bin ORDER BY place) = 1 AS opens_bin
    FROM grouped_tokens
)

SELECT
    q.run_id, q.cell_id, q.node_id, q.attempt, q.case_id, q.repeat, q.trace_row, g.reading, s.token_id, s.place,
    s.drawn::BIGINT AS drawn, s.standing, s.expected_draws, s.used, s.silent, s.others, s.border_share,
    s.bin, s.bin_due, q.most = 1 AS is_fixed
FROM filled AS s
INNER JOIN requests AS q USING (trace_row)
INNER JOIN readings AS g USING (trace_row, variant)
WHERE s.drawn > 0 OR s.expected_draws >= 1 OR s.place = 1 OR s.bin IS NOT NULL AND s.opens_bin
