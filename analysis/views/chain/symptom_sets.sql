-- One row is a chain symptom of a case that no isolate accounts for, with its possible stages.
--
-- Chain symptoms that no isolate accounts for, and where that places them.
--
-- suspects: the stages that could have made the symptom (`sources.causes`), without those that are qualified, or differ
-- only as declared, in this very cell; qualified logits clear also the tensors and the facts that they are made
-- of. What `config` spoils of a prompt shows in `tokenize`. Where a count agrees, the prompt is not suspected
-- behind other words: it may still be another of the same length, which nothing here can show. An answer that
-- ends elsewhere is placed at its end.
--
-- placement: `set` where one of the suspects is hidden, so that the symptom comes no nearer to a stage than this
-- (or where one was only reenacted, which never clears it); `through` where none is left: all parts agree, so the
-- fault lies between them; `open` where suspects were to be seen and were not judged.
--
-- reach: the last stage of the whole set, by which sets are put in the order of the chain.
WITH isolates AS (
    SELECT
        v.run_id, v.cell_id, v.node_id, v.stage, s.ordinal, v.verdict IN ('qualified', 'expected') AS passes,
        (v.verdict = 'not_observed' AND coalesce(v.reason.code IN ('hidden', 'absent'), false))
        OR (v.verdict = 'inconclusive' AND coalesce(v.observed = 'reenacted', false)) AS is_hidden,
        coalesce(
            bool_or(v.stage = 'logits' AND v.verdict = 'qualified') OVER (PARTITION BY v.run_id, v.cell_id, v.node_id),
            false
        ) AS logits_pass
    FROM verdicts.isolates AS v
    INNER JOIN sources.stages AS s ON v.stage = s.stage
    WHERE v.case_group = '*'
),

symptoms AS (
    SELECT c.*, c.symptom = 'output_ids' AND NOT c.goes_on AS ends
    FROM chain.compared AS c
    INNER JOIN chain.grouped AS g USING (observation_id)
    INNER JOIN staging.pairs AS p
        ON p.run_id = c.run_id AND p.cell_id = c.cell_id AND p.node_id = c.node_id AND p.pass <> 'timed'
    LEFT JOIN chain.symptoms AS a ON a.observation_id = c.observation_id
    WHERE g.case_group = '*' AND g.is_divergent AND a.cause IS NULL
),

suspected AS (
    SELECT
        s.run_id, s.cell_id, s.node_id, s.attempt, s.probe, s.case_id, s.repeat, s.symptom, s.detail,
        max(i.ordinal) AS reach,
        list(i.stage ORDER BY i.ordinal) FILTER (WHERE NOT i.cleared) AS suspects,
        coalesce(bool_or(i.is_hidden) FILTER (WHERE NOT i.cleared), false) AS has_hidden
    FROM symptoms AS s
    INNER JOIN sources.causes AS c
        ON s.symptom = c.symptom
        AND (
            c.behind IS NULL
            OR list_contains(s.hides, CASE WHEN c.behind = 'prompt' THEN 'prompt_tokens' ELSE c.behind END)
        )
        AND c.stage <> 'instrument'
        AND NOT (c.stage = 'config' AND starts_with(s.symptom, 'prompt'))
        AND (s.symptom <> 'output_ids' OR (c.stage = 'stop') = s.ends)
    INNER JOIN (
        SELECT *, passes OR logits_pass AND stage IN ('config', 'weights') AS cleared FROM isolates
    ) AS i
        ON i.run_id = s.run_id AND i.cell_id = s.cell_id AND i.node_id = s.node_id AND i.stage = c.stage
    GROUP BY ALL
)

SELECT
    * EXCLUDE (has_hidden),
    CASE WHEN suspects IS NULL THEN 'through' WHEN has_hidden THEN 'set' ELSE 'open' END AS placement
FROM suspected
