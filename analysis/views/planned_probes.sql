-- Every (cell, node, case, probe) that must leave evidence, with the golden answer where it applies.
-- Nothing is decoded where the reference's answer is empty, so `decode` is not planned there.
--
-- Golden text is truth only for the very weights it was written for. A name says nothing, and a
-- fine-tune that shares the tokenizer has its own template, stop set and ways to call tools.
WITH known_cases AS (
    SELECT * FROM cases
    QUALIFY row_number() OVER (PARTITION BY run_id, suite, case_id ORDER BY rowid DESC) = 1
)

SELECT
    p.run_id, p.cell_id, p.node_id, c.case_id, c.case_digest, c.tags, c.stage, b.probe,
    p.weights_digest, p.tokenizer_digest,
    c.golden_prompt_text, c.golden_prompt_ids, c.golden_text, c.golden_message,
    c.golden_finish_reason,
    coalesce(c.golden_weights_digest = p.model_weights_digest, false) AS golden_applies
FROM pairs AS p
INNER JOIN known_cases AS c ON p.run_id = c.run_id AND p.suite = c.suite
INNER JOIN probes AS b ON c.stage = b.stage
LEFT JOIN truths AS u
    ON b.probe = 'decode' AND u.probe = 'prefill' AND u.stage = c.stage AND u.run_id = p.run_id
    AND u.case_digest = c.case_digest AND u.weights_digest = p.weights_digest
    AND u.tokenizer_digest = p.tokenizer_digest
LEFT JOIN reference_traces AS r ON r.rowid = u.truth_row
WHERE r.case_id IS NULL OR len(coalesce(r.output_ids, [])) > 0
