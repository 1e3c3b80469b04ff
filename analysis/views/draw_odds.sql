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
-- used: draws of kept tokens. silent: the mass of those that come after the last one drawn.
WITH drawn AS (
    SELECT
        s.trace_row, s.run_id, s.cell_id, s.node_id, s.attempt, s.case_id, s.repeat,
        t.top_ids[1] AS ids, t.ref_topk_logprobs[1] AS logps, t.tail_logprob[1]::DOUBLE AS tail, t.prompt_ids,
        TRY_CAST(t.value AS JSON) AS value,
        a.* EXCLUDE (run_id, suite, case_id, measure, asked, draws),
        greatest(r.tie_nats, f.max_flip_margin) AS tie
    FROM self_traces AS s
    CROSS JOIN rules AS r
    INNER JOIN traces AS t ON s.trace_row = t.rowid
    INNER JOIN pairs AS p ON p.run_id = s.run_id AND p.cell_id = s.cell_id AND p.node_id = s.node_id
    INNER JOIN sampling_asked AS a ON a.run_id = s.run_id AND a.suite = p.suite AND a.case_id = s.case_id
    LEFT JOIN pair_floors AS f ON f.run_id = s.run_id AND f.cell_id = s.cell_id AND f.node_id = s.node_id
    WHERE s.stage = 'sampling' AND s.probe = 'draws' AND s.gap IS NULL AND s.judged
        AND len(t.top_ids[1]) > 0 AND len(t.top_ids[1]) = len(t.ref_topk_logprobs[1])
        AND t.tail_logprob[1] IS NOT NULL
        AND coalesce((TRY_CAST(t.value AS JSON) ->> '$.nonfinite')::BIGINT, 0) = 0
        -- A bias that favours a token whose log-probability is not known leaves no expectation.
        AND len(list_filter(
            map_entries(coalesce(TRY_CAST(TRY_CAST(t.value AS JSON) -> '$.bias' AS MAP (INTEGER, DOUBLE)), MAP {})),
            lambda b: b.value > 0 AND NOT list_contains(t.top_ids[1], b.key)
        )) = 0
),

requests AS (
    SELECT
        d.* EXCLUDE (ids, logps, prompt_ids),
        (value ->> '$.lse')::DOUBLE AS lse,
        -- At temperature 0 only the most probable may come.
        CASE WHEN d.temperature > 0 THEN d.temperature ELSE 1 END AS warmth,
        CASE WHEN d.temperature = 0 THEN 1 WHEN d.top_k > 0 THEN d.top_k ELSE 1e18::BIGINT END AS most,
        d.temperature = 0 OR d.top_k > 0 OR d.top_p < 1 OR d.min_p > 0 AS cuts,
        len(d.ids) AS known, d.logps[-1]::DOUBLE AS last_logp
    FROM drawn AS d
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
    SELECT trace_row, unnest(e).key::BIGINT AS token_id, unnest(e).value::BIGINT AS drawn
    FROM (SELECT trace_row, map_entries(TRY_CAST(value -> '$.counts' AS MAP (BIGINT, BIGINT))) AS e FROM drawn)
),

biases AS (
    SELECT trace_row, unnest(e).key::BIGINT AS token_id, unnest(e).value::DOUBLE AS bias
    FROM (SELECT trace_row, map_entries(TRY_CAST(value -> '$.bias' AS MAP (BIGINT, DOUBLE))) AS e FROM drawn)
),

prompts AS (
    SELECT trace_row, token_id, count(*) AS times
    FROM (
        SELECT trace_row, unnest(prompt_ids) AS token_id
        FROM drawn
        WHERE repetition_penalty <> 1 OR presence_penalty <> 0 OR frequency_penalty <> 0
    )
    GROUP BY ALL
),

stored AS (
    SELECT trace_row, unnest(ids)::BIGINT AS token_id, unnest(logps)::DOUBLE AS logp FROM drawn
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
                CASE WHEN k.logp + coalesce(b.bias, 0) + q.lse > 0
                    THEN (k.logp + coalesce(b.bias, 0) + q.lse) / q.repetition_penalty
                    ELSE (k.logp + coalesce(b.bias, 0) + q.lse) * q.repetition_penalty
                END
                - CASE WHEN g.prompt_too THEN q.presence_penalty + q.frequency_penalty * o.times ELSE 0 END
                - q.lse
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

-- What a top_p is a share of: all that top_k, and perhaps min_p, leave. Of the tail only the mass at
-- temperature 1 is known.
wholes AS (
    SELECT
        w.trace_row, w.variant,
        sum(w.weight) FILTER (WHERE w.place <= q.most AND (w.variant & 2 = 0 OR w.weight >= q.min_p))
        + any_value(CASE WHEN q.most > q.known AND w.variant & 2 = 0 THEN exp(q.tail - m.best) ELSE 0 END) AS whole
    FROM placed AS w
    INNER JOIN bests AS m USING (trace_row, variant)
    INNER JOIN requests AS q USING (trace_row)
    GROUP BY w.trace_row, w.variant
),

inside AS (
    SELECT
        w.trace_row, w.variant, w.token_id, w.place, w.drawn, w.x, w.odds, q.tie,
        w.place = 1 OR (
            w.place <= q.most AND w.weight >= q.min_p * exp(q.tie / CASE WHEN w.variant & 1 = 1 THEN 1 ELSE q.warmth END)
            AND (q.top_p >= 1 OR w.better / t.whole < q.top_p - q.tie / 4)
        ) AS surely,
        w.place = 1 OR (
            w.place <= q.most AND w.weight >= q.min_p * exp(-q.tie / CASE WHEN w.variant & 1 = 1 THEN 1 ELSE q.warmth END)
            AND (q.top_p >= 1 OR w.better / t.whole < q.top_p + q.tie / 4)
        ) AS perhaps
    FROM placed AS w
    INNER JOIN wholes AS t USING (trace_row, variant)
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
        exp(q.tail - e.best),
        CASE
            WHEN q.tail = '-inf'::DOUBLE OR NOT e.nothing_cut THEN 'cut'
            WHEN q.cuts OR q.warmth <> 1 THEN 'border'
            ELSE 'kept'
        END
    FROM edges AS e
    INNER JOIN requests AS q USING (trace_row)
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
        s.trace_row, s.variant, sum(s.odds) AS whole, sum(s.drawn) AS used,
        coalesce(sum(s.odds) FILTER (WHERE s.place > l.last_place), 0) / sum(s.odds) AS silent
    FROM standing AS s
    LEFT JOIN lasts AS l USING (trace_row, variant)
    WHERE s.standing = 'kept'
    GROUP BY ALL
)

SELECT
    q.run_id, q.cell_id, q.node_id, q.attempt, q.case_id, q.repeat, q.trace_row, g.reading, s.token_id, s.place,
    s.drawn::BIGINT AS drawn, s.standing,
    CASE WHEN s.standing = 'kept' THEN t.used * s.odds / t.whole ELSE 0.0 END AS expected_draws,
    coalesce(t.used, 0)::BIGINT AS used, t.silent
FROM standing AS s
LEFT JOIN totals AS t USING (trace_row, variant)
INNER JOIN requests AS q USING (trace_row)
INNER JOIN readings AS g USING (trace_row, variant)
WHERE s.drawn > 0 OR (s.standing = 'kept' AND t.used * s.odds / t.whole >= 1) OR s.place = 1
