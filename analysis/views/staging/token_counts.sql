-- One row is a trace of the chain.
--
-- How many tokens a chain's prompt and answer had, where the engine keeps their ids to itself and tells numbers.
--
-- hides_output: the answer has no ids, and the engine said so by telling a count in their place, be it null.
-- A trace that just lacks ids is no such answer: missing is never a match. A count that is not told, or is
-- none (zero, negative), is null and says nothing.
SELECT
    rowid AS trace_row, NOT coalesce(len(prompt_ids) > 0, false) AS hides_prompt,
    output_ids IS NULL AND coalesce(json_exists(TRY_CAST(value AS JSON), '$.output_tokens'), false) AS hides_output,
    CASE
        WHEN TRY_CAST(TRY_CAST(value AS JSON) ->> '$.prompt_tokens' AS BIGINT) > 0
            THEN (TRY_CAST(value AS JSON) ->> '$.prompt_tokens')::BIGINT
    END AS prompt_tokens,
    CASE
        WHEN TRY_CAST(TRY_CAST(value AS JSON) ->> '$.output_tokens' AS BIGINT) > 0
            THEN (TRY_CAST(value AS JSON) ->> '$.output_tokens')::BIGINT
    END AS output_tokens
FROM traces
WHERE stage = 'chain' AND probe = 'whole'
