-- One row is an answer of a factorial suite and one outcome of it.
--
-- What came out of a factorial suite, one row per answer and outcome, with the level of each factor.
--
-- A case says by its tags which question it asks (`item:…`) and how it puts it (`prompt:…`).
-- `right`: 1 where the chain's answer is the known right one, else 0. That answer is golden text, but no
-- truth of the chain's verdict, and it is right for whatever model is asked.
-- `logprob`: mean log-probability of the tokens of the reference's answer, forced on the engine.
-- An answer that was asked for again, by a later attempt or another run, is a row of its own.
WITH factors AS (
    SELECT
        run_id, suite, suite_version, case_id, golden_text,
        list_filter(tags, lambda t: starts_with(t, 'item:'))[1][6:] AS item,
        list_filter(tags, lambda t: starts_with(t, 'prompt:'))[1][8:] AS prompt
    FROM cases
    QUALIFY row_number() OVER (PARTITION BY run_id, suite, case_id ORDER BY rowid DESC) = 1
),

answers AS (
    SELECT
        t.run_id, t.cell_id, t.node_id, t.attempt, f.case_id, t.repeat, p.suite, f.suite_version, p.model,
        p.pass, f.prompt, f.item,
        concat_ws(' ', p.engine, p.engine_version, p.variant) AS engine,
        concat_ws(' ', p.hardware, p.backend, p.node_id) AS hardware,
        CASE t.stage WHEN 'chain' THEN 'right' ELSE 'logprob' END AS outcome,
        CASE t.stage
            WHEN 'chain' THEN (trim(t.text) = trim(f.golden_text))::INTEGER::DOUBLE
            ELSE list_avg(t.logprobs)::DOUBLE
        END AS value
    FROM traces AS t
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id, attempt)
    INNER JOIN staging.pairs AS p USING (run_id, cell_id, node_id)
    INNER JOIN factors AS f
        ON t.run_id = f.run_id AND p.suite = f.suite AND t.case_id = f.case_id
    WHERE a.status = 'ok' AND t.error IS NULL AND f.item IS NOT NULL AND f.prompt IS NOT NULL
        AND (t.stage = 'chain' AND t.probe = 'whole' OR t.stage = 'logits' AND t.probe = 'decode')
)

SELECT * FROM answers
WHERE isfinite(value)
