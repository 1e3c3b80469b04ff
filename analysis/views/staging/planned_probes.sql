-- One row is a probe of a case that a (cell, node) must leave.
--
-- Every (cell, node, case, probe) that must leave evidence, with the golden answer where it applies, and
-- how many traces (`repeats`) it must leave. Nothing is decoded where the reference's answer is empty, so
-- `decode` is not planned there.
--
-- A scenario is tried in each of its forms: each row of each size of batch, each size of chunk or number
-- of slots, each conversation beside. Seeds are tried twice alike and twice otherwise.
--
-- Golden text is truth only for the very weights it was written for. A name says nothing, and a
-- fine-tune that shares the tokenizer has its own template, stop set and ways to call tools. A suite that
-- was written for texts names the weights of all models of the run that have them.
WITH known_cases AS (
    SELECT * FROM cases
    QUALIFY row_number() OVER (PARTITION BY run_id, suite, case_id ORDER BY rowid DESC) = 1
),

asked AS (
    SELECT c.run_id, c.suite, c.case_id, b.probe, 1 AS repeats
    FROM known_cases AS c
    INNER JOIN sources.probes AS b ON c.stage = b.stage
    UNION ALL
    SELECT
        run_id, suite, case_id, TRY_CAST(input AS JSON) ->> '$.scenario.kind',
        CASE TRY_CAST(input AS JSON) ->> '$.scenario.kind'
            WHEN 'batched' THEN list_sum(TRY_CAST(TRY_CAST(input AS JSON) -> '$.scenario.sizes' AS BIGINT[]))
            WHEN 'prefix' THEN 1
            WHEN 'reused' THEN json_array_length(TRY_CAST(input AS JSON), '$.scenario.beside')
            ELSE json_array_length(TRY_CAST(input AS JSON), '$.scenario.sizes')
        END
    FROM known_cases
    WHERE stage = 'state' AND (TRY_CAST(input AS JSON) ->> '$.scenario.kind') IS NOT NULL
    UNION ALL
    SELECT
        run_id, suite, case_id, TRY_CAST(input AS JSON) ->> '$.measure',
        CASE WHEN TRY_CAST(input AS JSON) ->> '$.measure' = 'seed' THEN 4 ELSE 1 END
    FROM known_cases
    WHERE stage = 'sampling' AND (TRY_CAST(input AS JSON) ->> '$.measure') IS NOT NULL
)

SELECT
    p.run_id, p.cell_id, p.node_id, c.case_id, c.case_digest, c.tags, c.stage, b.probe, b.repeats,
    p.function_digest, p.tokenizer_digest,
    c.golden_prompt_text, c.golden_refusal, c.golden_prompt_ids, c.golden_text, c.golden_message,
    c.golden_finish_reason,
    coalesce(list_contains(string_split(c.golden_weights_digest, ' '), p.model_weights_digest), false)
        AS golden_applies
FROM staging.pairs AS p
INNER JOIN known_cases AS c ON p.run_id = c.run_id AND p.suite = c.suite
INNER JOIN asked AS b ON c.run_id = b.run_id AND c.suite = b.suite AND c.case_id = b.case_id
LEFT JOIN staging.truths AS u
    ON b.probe = 'decode' AND u.probe = 'prefill' AND u.stage = c.stage AND u.run_id = p.run_id
    AND u.case_digest = c.case_digest AND u.function_digest = p.function_digest
    AND u.tokenizer_digest = p.tokenizer_digest
LEFT JOIN sources.reference_traces AS r ON r.rowid = u.truth_row
WHERE r.case_id IS NULL OR len(coalesce(r.output_ids, [])) > 0
