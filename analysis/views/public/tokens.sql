-- One row is a teacher-forced token of a trace.
-- materialised: no (one row per token is for the curious; the lists stay in `traces`)
-- Each teacher-forced token with the log-probability it was given. Position 0 is the first token that
-- is predicted; it stands behind `start` in the forced ids.
SELECT
    run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat,
    unnest(range(len(logprobs))) AS position,
    unnest(prompt_ids[coalesce((TRY_CAST(value AS JSON) ->> '$.start')::BIGINT, 0) + 2:][:len(logprobs)]) AS token_id,
    unnest(logprobs) AS logprob
FROM traces
WHERE logprobs IS NOT NULL
