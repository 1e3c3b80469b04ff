-- One row is a `sampling` case of a suite in a run.
--
-- What each `sampling` case asks of the sampler. What is not asked has its neutral value: OpenAI's
-- semantics are the truth, temperature 1, nothing cut, nothing penalised.
--
-- unreadable: something asked for is no number, or one that no sampler takes; then nothing is compared.
WITH known AS (
    SELECT
        run_id, suite, case_id, TRY_CAST(input AS JSON) AS input,
        coalesce(TRY_CAST(TRY_CAST(input AS JSON) -> '$.asked' AS MAP (VARCHAR, VARCHAR)), MAP {}) AS given
    FROM cases
    WHERE stage = 'sampling'
    QUALIFY row_number() OVER (PARTITION BY run_id, suite, case_id ORDER BY rowid DESC) = 1
),

numbers AS (
    SELECT
        *,
        coalesce(given['temperature'], '1') AS warm, coalesce(given['top_k'], '0') AS k,
        coalesce(given['top_p'], '1') AS p, coalesce(given['min_p'], '0') AS m,
        coalesce(given['repetition_penalty'], '1') AS repeating,
        coalesce(given['presence_penalty'], '0') AS present,
        coalesce(given['frequency_penalty'], '0') AS frequent
    FROM known
),

read AS (
    SELECT
        run_id, suite, case_id, input ->> '$.measure' AS measure,
        coalesce(TRY_CAST(input ->> '$.draws' AS BIGINT), 0) AS draws, coalesce(input ->> '$.asked', '{}') AS asked,
        coalesce(json_type(input, '$.asked'), 'NULL') NOT IN ('NULL', 'OBJECT') AS no_object,
        TRY_CAST(warm AS DOUBLE) AS temperature, TRY_CAST(k AS BIGINT) AS top_k, TRY_CAST(p AS DOUBLE) AS top_p,
        TRY_CAST(m AS DOUBLE) AS min_p, TRY_CAST(repeating AS DOUBLE) AS repetition_penalty,
        TRY_CAST(present AS DOUBLE) AS presence_penalty, TRY_CAST(frequent AS DOUBLE) AS frequency_penalty,
        given['logit_bias'] IS NOT NULL AS biased
    FROM numbers
)

SELECT
    * EXCLUDE (no_object),
    no_object OR NOT coalesce(
        temperature >= 0 AND isfinite(temperature) AND top_k BETWEEN -1 AND 1e9::BIGINT
        AND top_p BETWEEN 0 AND 1 AND min_p BETWEEN 0 AND 1
        AND repetition_penalty > 0 AND isfinite(repetition_penalty)
        AND isfinite(presence_penalty) AND isfinite(frequency_penalty),
        false
    ) AS unreadable
FROM read
