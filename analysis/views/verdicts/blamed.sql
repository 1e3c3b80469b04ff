-- One row is a (cell, node) with its verdict and culprit, before confirmation.
--
-- The verdict on each (cell, node) and its culprit, before anything confirms it.
--
-- The culprit is the earliest isolate that diverges and is not declared. `config` is cause before it is
-- culprit: if it comes first and one of its facts explains a later stage that diverges too, that stage
-- is the culprit and the fact its explanation, also when something unrelated in between diverges.
--
-- The instrument is never the fault of an engine's part, so it outranks none: alone it leaves the cell
-- inconclusive, beside another it is listed. Attempts that disagree leave the cell inconclusive too,
-- whatever its suite requires. With every required isolate observed and passing and the chain still
-- different, the fault lies between the parts: `interface`; where one was not observed, nobody knows.
--
-- But where an engine hides the stages that could have made a symptom, these are its culprit, as a set
-- (`template/tokenize`), and so far is it placed. A set takes its place in the chain by its last stage.
WITH set_places AS (
    SELECT
        run_id, cell_id, node_id, array_to_string(suspects, '/') AS suspect_set, suspects, max(reach) AS reach,
        min_by(case_id || ': ' || detail, (case_id, probe <> 'whole', detail)) AS set_says,
        count(DISTINCT case_id) AS set_cases
    FROM chain.symptom_sets
    WHERE placement = 'set'
    GROUP BY run_id, cell_id, node_id, suspects
),

first_sets AS (
    SELECT *
    FROM set_places
    QUALIFY row_number() OVER (PARTITION BY run_id, cell_id, node_id ORDER BY reach, suspect_set) = 1
),

all_suspects AS (
    SELECT run_id, cell_id, node_id, list_distinct(flatten(list(suspects))) AS suspects
    FROM set_places
    GROUP BY ALL
),

through AS (
    SELECT run_id, cell_id, node_id, bool_and(placement = 'through') AS all_parts_agree
    FROM chain.symptom_sets
    GROUP BY ALL
),

failed_answers AS (
    SELECT
        run_id, cell_id, node_id,
        wording.chain_cases_failed(count(DISTINCT case_id), min(case_id), min_by(detail, (case_id, detail)))
            AS chain_failed
    FROM chain.grouped
    WHERE case_group = '*' AND outcome = 'error'
    GROUP BY ALL
),

whole AS (
    SELECT
        v.*, s.ordinal, list_contains(p.required, v.stage) AS is_required,
        coalesce(list_contains(u.suspects, v.stage), false) AS is_suspect,
        v.stage <> 'chain' AND v.verdict = 'divergent' AS is_culprit,
        CASE
            WHEN is_required AND v.verdict NOT IN ('qualified', 'expected', 'divergent')
            OR v.stage = 'instrument' AND v.verdict = 'divergent'
                THEN coalesce(CASE WHEN v.verdict = 'divergent' THEN v.explanation END, v.reason, v.verdict)
        END AS open_because
    FROM verdicts.verdicts AS v
    INNER JOIN sources.stages AS s ON v.stage = s.stage
    INNER JOIN staging.pairs AS p
        ON p.run_id = v.run_id AND p.cell_id = v.cell_id AND p.node_id IS NOT DISTINCT FROM v.node_id
    LEFT JOIN all_suspects AS u
        ON u.run_id = v.run_id AND u.cell_id = v.cell_id AND u.node_id = v.node_id
    WHERE v.case_group = '*'
),

-- What several stages have in common is said once.
opens AS (
    SELECT run_id, cell_id, node_id, string_agg(told, '; ' ORDER BY first_of) AS open
    FROM (
        SELECT
            run_id, cell_id, node_id, min(ordinal) AS first_of,
            string_agg(stage, ', ' ORDER BY ordinal) || ': ' || open_because AS told
        FROM whole
        WHERE open_because IS NOT NULL
        GROUP BY run_id, cell_id, node_id, open_because
    )
    GROUP BY run_id, cell_id, node_id
),

counted AS (
    SELECT
        run_id, cell_id, node_id,
        count(*) FILTER (WHERE stage <> 'chain' AND verdict IN ('qualified', 'expected', 'divergent')) AS observed,
        count(*) FILTER (WHERE stage <> 'instrument' AND verdict = 'divergent') AS divergent,
        count(*) FILTER (WHERE stage <> 'chain' AND verdict IN ('inconclusive', 'error')) AS isolates_open,
        count(*) FILTER (WHERE is_required AND verdict IN ('qualified', 'expected')) AS passed,
        count(*) FILTER (WHERE is_required AND stage <> 'chain') AS isolates_required,
        count(*) FILTER (WHERE is_required AND stage <> 'chain' AND verdict IN ('qualified', 'expected'))
            AS isolates_passed,
        string_agg(stage, ', ' ORDER BY ordinal) FILTER (WHERE is_culprit OR is_suspect) AS culprits,
        min_by(stage, (stage = 'instrument', ordinal)) FILTER (WHERE is_culprit) AS earliest,
        min(ordinal) FILTER (WHERE is_culprit AND stage <> 'instrument') AS earliest_at,
        string_agg(format('{} ({} of {})', stage, mismatches, n), ', ' ORDER BY ordinal)
            FILTER (WHERE verdict = 'expected') AS declared,
        max(explanation) FILTER (WHERE stage = 'chain') AS chain_says,
        -- Where the artifact itself was taken as the model, the runner says so.
        max(reason) FILTER (WHERE stage = 'weights' AND starts_with(reason, 'absent: ')) AS unchecked
    FROM whole
    GROUP BY run_id, cell_id, node_id
),

caused AS (
    SELECT w.run_id, w.cell_id, w.node_id, w.stage, f.details
    FROM whole AS w
    INNER JOIN compared.differing_facts AS f
        ON f.run_id = w.run_id AND f.cell_id = w.cell_id AND f.node_id = w.node_id AND f.stage = w.stage
    WHERE w.verdict = 'divergent' AND w.stage <> 'chain' AND f.details IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY w.run_id, w.cell_id, w.node_id ORDER BY w.ordinal) = 1
),

placed AS (
    SELECT
        p.*, c.* EXCLUDE (run_id, cell_id, node_id), x.details AS fact_details, o.open, f.chain_failed,
        len(p.required) AS required_count, d.reason AS disagreement, t.set_cases, t.set_says,
        coalesce(c.divergent > 0 AND p.pass <> 'timed' AND (c.earliest_at IS NULL OR t.reach < c.earliest_at), false)
        AND t.suspect_set IS NOT NULL AS is_set,
        CASE
            WHEN is_set THEN t.suspect_set
            WHEN c.earliest = 'config' THEN coalesce(x.stage, 'config')
            WHEN c.earliest <> 'instrument' THEN c.earliest
            WHEN c.earliest = 'instrument' AND c.divergent = 0 THEN 'instrument'
            WHEN c.divergent > 0 AND p.pass <> 'timed' AND c.earliest IS NULL AND (
                h.all_parts_agree
                OR c.isolates_open = 0 AND c.isolates_required > 0 AND c.isolates_passed = c.isolates_required
            )
                THEN 'interface'
        END AS culprit
    FROM staging.pairs AS p
    INNER JOIN sources.judging AS j ON j.run_id = p.run_id
    LEFT JOIN counted AS c
        ON c.run_id = p.run_id AND c.cell_id = p.cell_id AND c.node_id IS NOT DISTINCT FROM p.node_id
    LEFT JOIN caused AS x
        ON x.run_id = p.run_id AND x.cell_id = p.cell_id AND x.node_id = p.node_id
    LEFT JOIN opens AS o
        ON o.run_id = p.run_id AND o.cell_id = p.cell_id AND o.node_id IS NOT DISTINCT FROM p.node_id
    LEFT JOIN first_sets AS t
        ON t.run_id = p.run_id AND t.cell_id = p.cell_id AND t.node_id = p.node_id
    LEFT JOIN through AS h
        ON h.run_id = p.run_id AND h.cell_id = p.cell_id AND h.node_id = p.node_id
    LEFT JOIN failed_answers AS f
        ON f.run_id = p.run_id AND f.cell_id = p.cell_id AND f.node_id = p.node_id
    LEFT JOIN compared.disagreements AS d
        ON d.run_id = p.run_id AND d.cell_id = p.cell_id AND d.node_id = p.node_id
)

SELECT
    *,
    CASE
        WHEN judged_attempt IS NULL THEN 'error'
        WHEN divergent > 0 THEN 'divergent'
        -- Nothing is instrumented in the timed pass: it is no evidence either way.
        WHEN pass = 'timed' THEN 'not_observed'
        WHEN earliest = 'instrument' OR disagreement IS NOT NULL THEN 'inconclusive'
        WHEN required_count > 0 AND passed = required_count THEN 'qualified'
        ELSE 'inconclusive'
    END AS verdict
FROM placed
