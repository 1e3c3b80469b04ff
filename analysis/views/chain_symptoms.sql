-- Chain differences, and the isolate that accounts for each.
--
-- A stage accounts for a symptom if it could have made it (which part of the answer differs) and its
-- own isolate diverged. One that diverged only as declared accounts for a symptom under a shared tag,
-- because a declaration covers its own cases and no others; a parser's declared difference accounts
-- for any difference in the message alone, which no other part can make.
WITH isolates AS (
    SELECT e.run_id, e.cell_id, e.node_id, e.stage, e.verdict, s.ordinal
    FROM (
        SELECT run_id, cell_id, node_id, stage, verdict, case_group FROM exact_verdicts
        UNION ALL BY NAME
        SELECT run_id, cell_id, node_id, stage, verdict, case_group FROM logits_verdicts
    ) AS e
    INNER JOIN stages AS s ON e.stage = s.stage
    WHERE e.case_group = '*' AND e.verdict IN ('divergent', 'expected')
),

causes AS (
    SELECT * FROM (
        VALUES
            ('prompt', 'config'), ('prompt', 'template'), ('prompt', 'tokenize'),
            ('output_ids', 'config'), ('output_ids', 'weights'), ('output_ids', 'logits'),
            ('output_ids', 'state'), ('output_ids', 'sampling'), ('output_ids', 'stop'),
            ('text', 'stop'), ('text', 'detokenize'),
            ('finish_reason', 'stop'), ('finish_reason', 'parse'),
            ('message', 'parse')
    ) AS can (symptom, stage)
),

declared AS (
    SELECT
        run_id, cell_id, node_id, stage, list_distinct(flatten(list(tags))) AS tags
    FROM expected_hits
    WHERE hit
    GROUP BY ALL
),

symptoms AS (
    SELECT g.*, c.symptom AS symptom_kind
    FROM grouped AS g
    INNER JOIN chain_compared AS c USING (run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat)
    WHERE g.stage = 'chain' AND g.case_group = '*' AND g.is_divergent
)

SELECT
    s.run_id, s.cell_id, s.node_id, s.attempt, s.probe, s.case_id, s.repeat, s.symptom_kind, i.stage AS cause,
    i.verdict AS cause_verdict
FROM symptoms AS s
INNER JOIN causes AS c ON s.symptom_kind = c.symptom
INNER JOIN isolates AS i
    ON i.run_id = s.run_id AND i.cell_id = s.cell_id AND i.node_id = s.node_id AND i.stage = c.stage
LEFT JOIN declared AS d
    ON d.run_id = i.run_id AND d.cell_id = i.cell_id AND d.node_id = i.node_id AND d.stage = i.stage
WHERE i.verdict = 'divergent' OR i.stage = 'parse' OR coalesce(list_has_any(s.tags, d.tags), false)
QUALIFY row_number() OVER (
    PARTITION BY s.run_id, s.cell_id, s.node_id, s.probe, s.case_id, s.repeat
    ORDER BY i.verdict = 'expected' DESC, i.ordinal
) = 1
