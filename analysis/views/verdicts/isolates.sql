-- One row is an isolated stage of a (cell, node) in one case group.
--
-- Verdicts on the isolates. State and sampling rest on repeatable numbers as much as the logits do: where
-- nothing vouches for the instrument, nothing is decided there. Another conversation's secret is no number
-- and stays what it is; nor are texts that agree, which need no numbers to say so.
WITH leaking AS (
    SELECT DISTINCT
        run_id, cell_id, node_id, unnest(list_concat(['*'], list_distinct(coalesce(tags, [])))) AS case_group
    FROM compared.state
    WHERE judged AND leak
),

texts_only AS (
    SELECT run_id, cell_id, node_id
    FROM compared.state
    WHERE judged AND outcome NOT IN ('not_observed')
    GROUP BY ALL
    HAVING bool_and(chat)
),

exact AS (
    SELECT
        e.*,
        e.stage IN ('state', 'sampling') AND e.verdict IN ('qualified', 'expected', 'divergent')
        AND coalesce(i.verdict NOT IN ('qualified', 'expected'), true)
        AND NOT (e.stage = 'state' AND e.verdict = 'divergent' AND l.run_id IS NOT NULL)
        AND NOT (
            e.stage = 'state'
            AND e.verdict = 'qualified'
            AND t.run_id IS NOT NULL
            AND coalesce(i.verdict = 'not_observed', true)
        ) AS unvouched,
        wording.instrument_fails(i.verdict, CASE WHEN i.verdict = 'divergent' THEN i.explanation ELSE i.says END)
            AS unvouched_reason
    FROM verdicts.exact AS e
    LEFT JOIN verdicts.instrument AS i USING (run_id, cell_id, node_id)
    LEFT JOIN leaking AS l USING (run_id, cell_id, node_id, case_group)
    LEFT JOIN texts_only AS t USING (run_id, cell_id, node_id)
)

SELECT
    * EXCLUDE (unvouched, unvouched_reason)
    REPLACE (
        CASE WHEN unvouched THEN 'inconclusive' ELSE verdict END AS verdict,
        CASE WHEN unvouched THEN unvouched_reason ELSE reason END AS reason
    )
FROM exact
UNION ALL BY NAME
SELECT * FROM verdicts.logits
