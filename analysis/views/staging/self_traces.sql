-- One row is a trace of `state` or `sampling` in an attempt, or the gap where one is missing.
--
-- The planned probes of `state` and `sampling`, whose truth is the same engine: each trace of theirs, and a
-- row for what a judged attempt should have brought and did not.
--
-- gap: missing, error, not_observed, or null where there is something to compare; `why` says more. What the
-- engine does not have at all is not observed, and then nothing else of that case is missed.
WITH planned AS (
    SELECT
        n.run_id, n.cell_id, n.node_id, a.attempt, a.judged, a.later, a.margin, n.stage, n.case_id,
        n.case_digest, n.tags, n.probe, n.repeats
    FROM staging.planned_probes AS n
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id)
    WHERE n.stage IN ('state', 'sampling')
),

found AS (
    SELECT
        p.*, t.repeat, t.observed, t.payload_digest, t.rowid AS trace_row, t.error,
        t.case_digest IS DISTINCT FROM p.case_digest AS other_case,
        t.observed NOT IN ('path', 'endpoint', 'reenacted') AS unseen
    FROM planned AS p
    INNER JOIN traces AS t USING (run_id, cell_id, node_id, attempt, stage, case_id, probe)
),

-- A case that failed before its probes could be told apart.
failures AS (
    SELECT
        run_id, cell_id, node_id, attempt, stage, case_id, min(error) AS error,
        any_value(observed) AS observed
    FROM traces
    WHERE probe = '*' AND case_id <> '*' AND error IS NOT NULL AND stage IN ('state', 'sampling')
    GROUP BY ALL
),

stars AS (
    SELECT DISTINCT run_id, cell_id, node_id, attempt, stage
    FROM traces
    WHERE case_id = '*' AND observed IN ('hidden', 'absent', 'not_probed')
),

counts AS (
    SELECT
        run_id, cell_id, node_id, attempt, stage, case_id, probe, count(DISTINCT repeat) AS brought
    FROM found
    GROUP BY ALL
),

-- One trace says of a whole case that the engine cannot be asked it; of one among several forms it
-- speaks for that form alone.
unseen_cases AS (
    SELECT run_id, cell_id, node_id, attempt, stage, case_id
    FROM found
    GROUP BY ALL
    HAVING bool_and(unseen)
),

absent AS (
    SELECT
        p.*, coalesce(c.brought, 0) AS repeat, f.observed,
        CASE WHEN f.error IS NOT NULL THEN 'error' ELSE 'missing' END AS gap,
        CASE
            WHEN f.error IS NOT NULL THEN f.error
            WHEN c.brought > 0 THEN format('only {} of {} {} traces came', c.brought, p.repeats, p.probe)
            ELSE 'the attempt recorded nothing of it'
        END AS why
    FROM planned AS p
    LEFT JOIN counts AS c USING (run_id, cell_id, node_id, attempt, stage, case_id, probe)
    LEFT JOIN failures AS f USING (run_id, cell_id, node_id, attempt, stage, case_id)
    WHERE p.judged AND coalesce(c.brought, 0) < p.repeats
        AND (p.run_id, p.cell_id, p.node_id, p.attempt, p.stage, p.case_id) NOT IN (SELECT * FROM unseen_cases)
        AND (p.run_id, p.cell_id, p.node_id, p.attempt, p.stage) NOT IN (SELECT * FROM stars)
)

SELECT
    * EXCLUDE (error, other_case, unseen),
    CASE
        WHEN unseen THEN 'not_observed'
        WHEN error IS NOT NULL OR other_case OR payload_digest IS NULL THEN 'error'
    END AS gap,
    CASE
        WHEN unseen THEN observed || coalesce(': ' || error, '')
        WHEN error IS NOT NULL THEN error
        WHEN other_case THEN 'the trace belongs to another version of this case'
        WHEN payload_digest IS NULL THEN 'the probe returned nothing'
    END AS why
FROM found
UNION ALL BY NAME
SELECT * FROM absent
