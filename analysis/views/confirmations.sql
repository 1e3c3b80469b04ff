-- Whether the chain confirms each culprit: one symptomatic case that does is enough, and one that
-- contradicts is `no` where none does. A case counts only if its symptom is one that the culprit can make
-- and that no declared difference accounts for.
--
-- A fact that explains its stage may confirm it too; a fact alone is confirmed by the stage that it would
-- spoil. For `interface` any part may turn out to be the one; none refutes it.
WITH suspected AS (
    SELECT run_id, cell_id, node_id, attempt, culprit, culprit AS part
    FROM blamed
    WHERE verdict = 'divergent' AND culprit IS NOT NULL
    UNION
    SELECT run_id, cell_id, node_id, attempt, culprit, 'config'
    FROM blamed
    WHERE verdict = 'divergent' AND earliest = 'config'
    UNION
    SELECT b.run_id, b.cell_id, b.node_id, b.attempt, b.culprit, f.stage
    FROM blamed AS b
    INNER JOIN differing_facts AS f
        ON f.run_id = b.run_id AND f.cell_id = b.cell_id AND f.node_id = b.node_id AND f.details IS NOT NULL
    WHERE b.verdict = 'divergent' AND b.culprit = 'config'
    UNION
    SELECT b.run_id, b.cell_id, b.node_id, b.attempt, b.culprit, r.part
    FROM blamed AS b
    CROSS JOIN swap_rules AS r
    WHERE b.culprit = 'interface'
),

symptomatic AS (
    SELECT s.*, c.case_id, c.repeat
    FROM suspected AS s
    INNER JOIN chain_compared AS c
        ON c.run_id = s.run_id AND c.cell_id = s.cell_id AND c.node_id = s.node_id AND c.attempt = s.attempt
        AND c.probe = 'whole' AND c.outcome = 'mismatch'
    INNER JOIN causes AS x
        ON x.stage = s.part AND x.symptom = c.symptom AND (c.prompt_hidden OR NOT x.only_where_prompt_hidden)
    LEFT JOIN chain_symptoms AS d
        ON d.run_id = c.run_id AND d.cell_id = c.cell_id AND d.node_id = c.node_id AND d.attempt = c.attempt
        AND d.probe = c.probe AND d.case_id = c.case_id AND d.repeat = c.repeat AND d.cause_verdict = 'expected'
    WHERE d.run_id IS NULL
),

tried AS (
    SELECT
        y.*, s.says, p.says AS placebo_says, s.run_id IS NOT NULL AS was_run,
        CASE r.effect WHEN 'cures' THEN s.cures WHEN 'infects' THEN s.infects ELSE s.persists END AS effect,
        coalesce(p.cures, p.infects) AS placebo_effect, coalesce(s.error, p.error) AS failure
    FROM symptomatic AS y
    INNER JOIN swap_rules AS r ON r.part = y.part
    LEFT JOIN swaps AS s
        ON s.run_id = y.run_id AND s.cell_id = y.cell_id AND s.node_id = y.node_id AND s.attempt = y.attempt
        AND s.case_id = y.case_id AND s.repeat = y.repeat AND s.swap = r.swap
    LEFT JOIN swaps AS p
        ON p.run_id = y.run_id AND p.cell_id = y.cell_id AND p.node_id = y.node_id AND p.attempt = y.attempt
        AND p.case_id = y.case_id AND p.repeat = y.repeat AND p.swap = r.placebo
),

weighed AS (
    SELECT
        *,
        effect AND NOT placebo_effect AS is_proof,
        culprit <> 'interface' AND (NOT effect OR effect AND placebo_effect) AS is_doubt,
        {'case_id': case_id, 'says': concat_ws('; ', says, placebo_says)} AS told
    FROM tried
),

decided AS (
    SELECT
        run_id, cell_id, node_id, culprit,
        coalesce(bool_or(is_proof), false) AS confirms, coalesce(bool_or(is_doubt), false) AS contradicts,
        arg_min(told, told.case_id) FILTER (WHERE is_proof) AS proof,
        arg_min(told, told.case_id) FILTER (WHERE is_doubt) AS doubt,
        min(failure) AS failure
    FROM weighed
    GROUP BY ALL
)

SELECT
    b.run_id, b.cell_id, b.node_id,
    CASE WHEN d.confirms THEN 'yes' WHEN d.contradicts THEN 'no' ELSE 'not_applicable' END AS confirmed,
    CASE WHEN d.confirms THEN d.proof.case_id WHEN d.contradicts THEN d.doubt.case_id END AS case_id,
    CASE
        WHEN d.confirms THEN format('confirmed in {}: {}', d.proof.case_id, d.proof.says)
        WHEN d.contradicts THEN format('not confirmed in {}: {}', d.doubt.case_id, d.doubt.says)
        WHEN b.culprit IS NULL THEN 'nothing to confirm: no stage is blamed'
        WHEN b.culprit = 'interface' THEN 'not to be confirmed: no part put in place alone explains it'
        WHEN b.culprit NOT IN (SELECT part FROM swap_rules) THEN format('not to be confirmed: no swap shows a fault of {}', b.culprit)
        WHEN d.run_id IS NULL THEN 'not to be confirmed: no answer of the chain shows a symptom of it'
        ELSE 'not to be confirmed: the chain shows it, but ' || coalesce('a swap failed: ' || d.failure, 'no swap was run')
    END AS told
FROM blamed AS b
LEFT JOIN decided AS d ON d.run_id = b.run_id AND d.cell_id = b.cell_id AND d.node_id = b.node_id
WHERE b.verdict = 'divergent'
