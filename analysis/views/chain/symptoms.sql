-- One row is a probe of the chain that differs, with the isolate that accounts for it.
--
-- Chain differences, and the isolate that accounts for each.
--
-- A stage accounts for a symptom if it could have made it (which part of the answer differs) and its
-- own isolate diverged. One that diverged only as declared accounts for a symptom under a shared tag,
-- because a declaration covers its own cases and no others. A parser's also accounts for cases that
-- offer tools or ask for thinking, which is what there is to parse; a finish_reason is the parser's only
-- where calls were made, or where one side has calls that the other gives back as raw text.
--
-- A broken instrument accounts for other tokens where nothing better does: it makes no symptom, but it
-- takes away the ground on which one could be told from a tie.
WITH isolates AS (
    SELECT e.run_id, e.cell_id, e.node_id, e.stage, e.verdict, s.ordinal
    FROM verdicts.isolates AS e
    INNER JOIN sources.stages AS s ON e.stage = s.stage
    WHERE e.case_group = '*' AND e.verdict IN ('divergent', 'expected')
),

declared AS (
    SELECT
        run_id, cell_id, node_id, stage, list_distinct(flatten(list(tags))) AS tags
    FROM compared.expected_hits
    WHERE hit
    GROUP BY ALL
),

parsed AS (
    SELECT
        run_id, suite, case_id,
        coalesce(json_array_length(TRY_CAST(input AS JSON) -> '$.tools'), 0) > 0
        OR coalesce((TRY_CAST(input AS JSON) ->> '$.template_options.enable_thinking')::BOOLEAN, false) AS is_parsed
    FROM cases
    QUALIFY row_number() OVER (PARTITION BY run_id, suite, case_id ORDER BY rowid DESC) = 1
),

symptoms AS (
    SELECT
        g.*, coalesce(i.is_parsed, false) AS is_parsed, p.hides, p.true_finish = 'tool_calls'
        OR (coalesce(json_array_length(TRY_CAST(p.true_message AS JSON) -> '$.tool_calls'), 0) > 0)
        <> (coalesce(json_array_length(TRY_CAST(p.seen_message AS JSON) -> '$.tool_calls'), 0) > 0) AS has_calls
    FROM chain.grouped AS g
    INNER JOIN chain.compared AS p USING (observation_id)
    INNER JOIN staging.pairs AS q
        ON q.run_id = g.run_id AND q.cell_id = g.cell_id AND q.node_id = g.node_id
    LEFT JOIN parsed AS i
        ON i.run_id = g.run_id AND i.suite = q.suite AND i.case_id = g.case_id
    WHERE g.case_group = '*' AND g.is_divergent
)

SELECT
    s.observation_id, s.run_id, s.cell_id, s.node_id, s.attempt, s.probe, s.case_id, s.repeat, s.symptom,
    i.stage AS cause,
    i.verdict AS cause_verdict
FROM symptoms AS s
INNER JOIN sources.causes AS c
    ON s.symptom = c.symptom AND (c.behind IS NULL OR list_contains(s.hides, c.behind))
INNER JOIN isolates AS i
    ON i.run_id = s.run_id AND i.cell_id = s.cell_id AND i.node_id = s.node_id AND i.stage = c.stage
LEFT JOIN declared AS d
    ON d.run_id = i.run_id AND d.cell_id = i.cell_id AND d.node_id = i.node_id AND d.stage = i.stage
WHERE
    CASE
        WHEN i.verdict = 'divergent' THEN true
        WHEN i.stage = 'parse' AND s.symptom = 'finish_reason' AND NOT coalesce(s.has_calls, false) THEN false
        WHEN i.stage = 'parse' AND s.is_parsed THEN true
        ELSE coalesce(list_has_any(s.tags, d.tags), false)
    END
QUALIFY row_number() OVER (
    PARTITION BY s.observation_id
    ORDER BY i.stage = 'instrument', i.verdict = 'expected' DESC, i.ordinal
) = 1
