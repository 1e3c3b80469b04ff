-- One row is a token of a greedy answer under one definition of the penalties.
--
-- Each token of a greedy answer against the most probable one of the engine's own logits, penalised as was
-- asked: `ahead` is by how much (nats) the best of them led the token that was taken.
--
-- repetition: a logit above zero is divided, one below multiplied, for every token of prompt and answer so
-- far (Keskar et al. 2019). presence and frequency: subtracted for tokens of the answer so far (OpenAI);
-- engines may count the prompt too, so either definition is `accepted`. The other definitions are hints for
-- people, and are only tried where the answer is not simply the greedy one.
--
-- The best is sought among the stored most probable ids and the token taken. A token beyond those cannot
-- be the best unless all of them were penalised below it, or a bias lifts it: then nobody knows (`unknown`).
-- An answer with a number missing or not finite, of its own or beside one of its tokens, is not here.
WITH answers AS (
    SELECT
        s.trace_row, s.run_id, s.cell_id, s.node_id, s.attempt, s.case_id, s.repeat, t.output_ids,
        t.prompt_ids,
        t.top_ids, t.ref_topk_logprobs AS logps, t.logprobs,
        TRY_CAST(TRY_CAST(t.value AS JSON) -> '$.lse' AS DOUBLE[]) AS lses,
        list_transform(
            map_entries(TRY_CAST(TRY_CAST(t.value AS JSON) -> '$.bias' AS MAP (VARCHAR, VARCHAR))),
            lambda e: {token_id: TRY_CAST(e.key AS INTEGER), bias: TRY_CAST(e.value AS DOUBLE)}
        ) AS told_biases,
        a.repetition_penalty, a.presence_penalty, a.frequency_penalty,
        greatest(r.tie_nats, f.max_flip_margin) AS tie
    FROM staging.self_traces AS s
    CROSS JOIN sources.rules AS r
    INNER JOIN traces AS t ON s.trace_row = t.rowid
    INNER JOIN staging.pairs AS p ON p.run_id = s.run_id AND p.cell_id = s.cell_id AND p.node_id = s.node_id
    INNER JOIN staging.sampling_asked AS a ON a.run_id = s.run_id AND a.suite = p.suite AND a.case_id = s.case_id
    LEFT JOIN numeric.pair_floors AS f ON f.run_id = s.run_id AND f.cell_id = s.cell_id AND f.node_id = s.node_id
    WHERE s.stage = 'sampling' AND s.probe = 'greedy' AND s.gap IS NULL AND s.judged
        AND len(t.output_ids) > 0 AND len(t.output_ids) = len(t.top_ids)
        AND len(t.output_ids) = len(t.ref_topk_logprobs) AND len(t.output_ids) = len(t.logprobs)
        AND NOT a.unreadable
        AND TRY_CAST(coalesce(TRY_CAST(t.value AS JSON) ->> '$.nonfinite', '0') AS BIGINT) = 0
        AND len(lses) = len(t.output_ids)
        AND list_bool_and(list_transform(lses, lambda x: coalesce(isfinite(x), false)))
        AND list_bool_and(list_transform(t.logprobs, lambda x: coalesce(isfinite(x) OR x = '-inf'::FLOAT, false)))
        AND list_bool_and(list_transform(list_zip(t.top_ids, t.ref_topk_logprobs), lambda z: coalesce(
            len(z[1]) > 0 AND len(z[1]) = len(z[2]) AND isfinite(z[2][1])
            AND list_bool_and(list_transform(z[2], lambda x: coalesce(isfinite(x) OR x = '-inf'::FLOAT, false))), false
        )))
        AND (
            coalesce(json_type(TRY_CAST(t.value AS JSON), '$.bias'), 'NULL') = 'NULL' OR len(told_biases) = 0
            OR list_bool_and(
                list_transform(told_biases, lambda b: coalesce(b.token_id >= 0 AND isfinite(b.bias), false))
            )
        )
),

unpenalised AS (
    SELECT
        trace_row,
        list_bool_or(list_transform(range(1, len(output_ids) + 1), lambda i: logps[i][1] - logprobs[i] > tie))
            AS strays,
        repetition_penalty <> 1 OR presence_penalty <> 0 OR frequency_penalty <> 0 AS penalised
    FROM answers
),

definitions AS (
    SELECT
        a.trace_row, d.definition, d.accepted, d.prompt_too, d.reach,
        coalesce(d.repetition, a.repetition_penalty) AS repetition,
        CASE WHEN d.repetition IS NULL THEN a.presence_penalty ELSE 0 END AS presence,
        CASE WHEN d.repetition IS NULL THEN a.frequency_penalty ELSE 0 END AS frequency
    FROM answers AS a
    INNER JOIN unpenalised AS u USING (trace_row)
    INNER JOIN (
        VALUES
            ('as asked', true, false, NULL, NULL, 'always'),
            ('as asked, counting the prompt too', true, true, NULL, NULL, 'counted'),
            ('over the last 64 tokens only', false, true, 64, NULL, 'penalised'),
            ('over the answer only', false, false, 0, NULL, 'penalised'),
            ('without any penalty', false, false, NULL, 1.0, 'penalised'),
            ('repetition_penalty 1.05', false, false, NULL, 1.05, 'strays'),
            ('repetition_penalty 1.1', false, false, NULL, 1.1, 'strays'),
            ('repetition_penalty 1.15', false, false, NULL, 1.15, 'strays'),
            ('repetition_penalty 1.2', false, false, NULL, 1.2, 'strays'),
            ('repetition_penalty 1.3', false, false, NULL, 1.3, 'strays')
    ) AS d (definition, accepted, prompt_too, reach, repetition, tried)
        ON d.tried = 'always'
        OR (d.tried = 'counted' AND (a.presence_penalty <> 0 OR a.frequency_penalty <> 0))
        OR (d.tried = 'penalised' AND u.penalised)
        OR (d.tried = 'strays' AND u.strays)
),

steps AS (
    SELECT trace_row, unnest(range(1, len(output_ids) + 1)) AS step FROM answers
),

candidates AS (
    SELECT
        s.trace_row, s.step, a.output_ids[s.step] AS taken,
        unnest(
            list_concat(
                a.top_ids[s.step],
                CASE WHEN list_contains(a.top_ids[s.step], a.output_ids[s.step]) THEN [] ELSE [a.output_ids[s.step]] END
            )
        ) AS token_id,
        unnest(
            list_concat(
                a.logps[s.step],
                CASE WHEN list_contains(a.top_ids[s.step], a.output_ids[s.step]) THEN [] ELSE [a.logprobs[s.step]] END
            )
        )::DOUBLE AS logp
    FROM steps AS s
    INNER JOIN answers AS a USING (trace_row)
),

prompts AS (
    SELECT trace_row, token_id, count(*) AS times
    FROM (SELECT trace_row, unnest(prompt_ids) AS token_id FROM answers)
    GROUP BY ALL
),

biases AS (
    SELECT trace_row, b.token_id, b.bias
    FROM (SELECT trace_row, unnest(told_biases) AS b FROM answers)
),

-- The most that a token which was not stored can have by its bias.
lifted AS (
    SELECT s.trace_row, s.step, max(a.logps[s.step][-1] + b.bias) AS at_most
    FROM steps AS s
    INNER JOIN answers AS a USING (trace_row)
    INNER JOIN biases AS b USING (trace_row)
    WHERE b.bias > 0 AND a.output_ids[s.step] <> b.token_id AND NOT list_contains(a.top_ids[s.step], b.token_id)
    GROUP BY ALL
),

counted AS (
    SELECT
        c.*, c.logp + coalesce(b.bias, 0) AS x, coalesce(p.times, 0) AS in_prompt,
        len(list_filter(a.output_ids[:c.step - 1], lambda z: z = c.token_id)) AS in_answer,
        a.lses[c.step] AS lse
    FROM candidates AS c
    INNER JOIN answers AS a USING (trace_row)
    LEFT JOIN prompts AS p ON p.trace_row = c.trace_row AND p.token_id = c.token_id
    LEFT JOIN biases AS b ON b.trace_row = c.trace_row AND b.token_id = c.token_id
),

reached AS (
    SELECT
        c.*, d.definition, d.accepted, d.repetition, d.presence, d.frequency,
        CASE
            WHEN d.reach IS NULL THEN c.in_prompt + c.in_answer
            WHEN d.reach = 0 THEN c.in_answer
            ELSE
                len(
                    list_filter(
                        list_concat(a.prompt_ids, a.output_ids[:c.step - 1])[-d.reach:], lambda z: z = c.token_id
                    )
                )
        END AS repeated,
        CASE
            WHEN d.reach > 0
                THEN
                    len(
                        list_filter(
                            list_concat(a.prompt_ids, a.output_ids[:c.step - 1])[-d.reach:], lambda z: z = c.token_id
                        )
                    )
            WHEN d.prompt_too THEN c.in_prompt + c.in_answer
            ELSE c.in_answer
        END AS present
    FROM counted AS c
    INNER JOIN definitions AS d USING (trace_row)
    INNER JOIN answers AS a USING (trace_row)
),

penalised AS (
    SELECT
        *,
        CASE
            WHEN repetition = 1 OR repeated = 0 THEN x
            WHEN x + lse > 0 THEN (x + lse) / repetition - lse
            ELSE (x + lse) * repetition - lse
        END - CASE WHEN present > 0 THEN presence + frequency * present ELSE 0 END AS y
    FROM reached
),

led AS (
    SELECT
        trace_row, definition, any_value(accepted) AS accepted, step, any_value(taken) AS taken,
        arg_max(token_id, y) AS best, max(y) - max(y) FILTER (WHERE token_id = taken) AS ahead, max(y) AS highest,
        arg_max(in_prompt + in_answer > 0, y) AS best_seen_before
    FROM penalised
    GROUP BY trace_row, definition, step
)

SELECT
    a.run_id, a.cell_id, a.node_id, a.attempt, a.case_id, a.repeat, l.* EXCLUDE (highest),
    -- What was not stored lies no higher than the last that was.
    coalesce(m.at_most > l.highest, false) OR a.logps[l.step][-1] > l.highest AS unknown,
    -- A lead that is no number (NULL) is none that was honoured.
    coalesce(l.ahead > a.tie, true) AS violates
FROM led AS l
INNER JOIN answers AS a USING (trace_row)
LEFT JOIN lifted AS m USING (trace_row, step)
