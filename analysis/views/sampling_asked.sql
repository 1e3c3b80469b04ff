-- What each `sampling` case asks of the sampler. What is not asked has its neutral value: OpenAI's
-- semantics are the truth, temperature 1, nothing cut, nothing penalised.
WITH known AS (
    SELECT run_id, suite, case_id, TRY_CAST(input AS JSON) AS input
    FROM cases
    WHERE stage = 'sampling'
    QUALIFY row_number() OVER (PARTITION BY run_id, suite, case_id ORDER BY rowid DESC) = 1
)

SELECT
    run_id, suite, case_id, input ->> '$.measure' AS measure, coalesce((input ->> '$.draws')::BIGINT, 0) AS draws,
    coalesce(input ->> '$.asked', '{}') AS asked,
    coalesce((input ->> '$.asked.temperature')::DOUBLE, 1.0) AS temperature,
    coalesce((input ->> '$.asked.top_k')::BIGINT, 0) AS top_k,
    coalesce((input ->> '$.asked.top_p')::DOUBLE, 1.0) AS top_p,
    coalesce((input ->> '$.asked.min_p')::DOUBLE, 0.0) AS min_p,
    coalesce((input ->> '$.asked.repetition_penalty')::DOUBLE, 1.0) AS repetition_penalty,
    coalesce((input ->> '$.asked.presence_penalty')::DOUBLE, 0.0) AS presence_penalty,
    coalesce((input ->> '$.asked.frequency_penalty')::DOUBLE, 0.0) AS frequency_penalty
FROM known
