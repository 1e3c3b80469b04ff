-- One row is a teacher-forced token of a trace.
-- materialised: no (one row per token is for the curious; the lists stay in `traces`)
-- Each teacher-forced token with the log-probability it was given. Position 0 is the first token that
-- is predicted; it stands behind `start` in the forced ids. A long sequence keeps some positions only.
WITH placed AS (
    SELECT
        *, coalesce((TRY_CAST(value AS JSON) ->> '$.start')::BIGINT, 0) AS start,
        coalesce(TRY_CAST(TRY_CAST(value AS JSON) -> '$.positions' AS BIGINT[]), range(len(logprobs))) AS kept
    FROM traces
    WHERE logprobs IS NOT NULL
)

SELECT
    run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat,
    unnest(kept[:len(logprobs)]) AS position,
    unnest(list_transform(kept[:len(logprobs)], lambda p: prompt_ids[start + 2 + p])) AS token_id,
    unnest(logprobs) AS logprob
FROM placed
