-- One row is a `draws` trace of a judged attempt.
--
-- Each judged `draws` trace, taken apart, and why it cannot be compared with a distribution (`defect`).
--
-- Evidence is untrusted: what is no number stays null, and a null where a number belongs is a defect.
-- Whether the numbers are finite is read from the numbers themselves; what the probe says of them can
-- only add. `-inf` is the log-probability of what cannot occur.
WITH brought AS (
    SELECT
        s.trace_row, s.run_id, s.cell_id, s.node_id, s.attempt, s.case_id, s.repeat,
        t.top_ids[1]::BIGINT[] AS ids, t.ref_topk_logprobs[1]::DOUBLE[] AS logps, t.tail_logprob[1]::DOUBLE AS tail,
        t.prompt_ids, TRY_CAST(t.value AS JSON) AS value,
        a.* EXCLUDE (run_id, suite, case_id, measure), greatest(r.tie_nats, f.max_flip_margin) AS tie
    FROM staging.self_traces AS s
    CROSS JOIN sources.rules AS r
    INNER JOIN traces AS t ON s.trace_row = t.rowid
    INNER JOIN staging.pairs AS p ON p.run_id = s.run_id AND p.cell_id = s.cell_id AND p.node_id = s.node_id
    INNER JOIN staging.sampling_asked AS a ON a.run_id = s.run_id AND a.suite = p.suite AND a.case_id = s.case_id
    LEFT JOIN numeric.pair_floors AS f ON f.run_id = s.run_id AND f.cell_id = s.cell_id AND f.node_id = s.node_id
    WHERE s.stage = 'sampling' AND s.probe = 'draws' AND s.gap IS NULL AND s.judged
),

read AS (
    SELECT
        * EXCLUDE (value), coalesce(json_type(value, '$.bias'), 'NULL') <> 'NULL' AS tells_bias,
        TRY_CAST(value ->> '$.draws' AS BIGINT) AS told_draws, TRY_CAST(value ->> '$.lse' AS DOUBLE) AS lse,
        coalesce(value ->> '$.nonfinite', '0') AS nonfinite,
        list_transform(
            map_entries(TRY_CAST(value -> '$.counts' AS MAP (VARCHAR, VARCHAR))),
            lambda e: {token: e.key, token_id: TRY_CAST(e.key AS INTEGER), drawn: TRY_CAST(e.value AS BIGINT)}
        ) AS counts,
        list_transform(
            map_entries(TRY_CAST(value -> '$.bias' AS MAP (VARCHAR, VARCHAR))),
            lambda e: {token: e.key, token_id: TRY_CAST(e.key AS INTEGER), bias: TRY_CAST(e.value AS DOUBLE)}
        ) AS biases
    FROM brought
),

checked AS (
    SELECT
        *,
        -- `01` beside `1` would count a token twice.
        coalesce(list_bool_and(list_transform(
            counts,
            lambda c: coalesce(
                c.token_id >= 0 AND c.token_id::VARCHAR = c.token AND c.drawn BETWEEN 0 AND 1e12::BIGINT, false
            )
        )), len(counts) = 0, false) AS counts_read,
        coalesce(list_bool_and(list_transform(
            biases, lambda b: coalesce(b.token_id >= 0 AND b.token_id::VARCHAR = b.token AND isfinite(b.bias), false)
        )), len(biases) = 0, NOT tells_bias) AS biases_read,
        coalesce(
            len(ids) > 0 AND len(ids) = len(logps) AND list_unique(ids) = len(ids)
            AND list_bool_and(list_transform(logps, lambda p: coalesce(isfinite(p) OR p = '-inf'::DOUBLE, false)))
            AND isfinite(list_max(logps)) AND (isfinite(tail) AND isfinite(list_min(logps)) OR tail = '-inf'::DOUBLE)
            AND TRY_CAST(nonfinite AS BIGINT) = 0,
            false
        ) AS numbers_read
    FROM read
)

SELECT
    * EXCLUDE (counts_read, biases_read, numbers_read, tells_bias, nonfinite, unreadable),
    CASE
        WHEN unreadable THEN 'what was asked cannot be read'
        WHEN NOT numbers_read THEN 'there is no finite distribution to compare the draws with'
        WHEN NOT counts_read THEN 'the counts of the draws cannot be read'
        WHEN NOT biases_read THEN 'the biases cannot be read'
        WHEN repetition_penalty <> 1 AND NOT coalesce(isfinite(lse), false)
            THEN 'there is no log-sum-exp, which is needed to know what was penalised'
        -- What is lifted and has no known log-probability leaves no expectation.
        WHEN len(list_filter(biases, lambda b: b.bias > 0 AND NOT list_contains(ids, b.token_id))) > 0
            THEN 'a bias favours a token that was not stored'
        WHEN (repetition_penalty < 1 OR presence_penalty < 0 OR frequency_penalty < 0)
            AND len(list_filter(prompt_ids, lambda i: NOT list_contains(ids, i))) > 0
            THEN 'a penalty favours a token that was not stored'
    END AS defect
FROM checked
