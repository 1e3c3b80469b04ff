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
WITH whole AS (
    SELECT v.*, s.ordinal, list_contains(p.required, v.stage) AS is_required
    FROM fresh_verdicts AS v
    INNER JOIN stages AS s ON v.stage = s.stage
    INNER JOIN pairs AS p
        ON p.run_id = v.run_id AND p.cell_id = v.cell_id AND p.node_id IS NOT DISTINCT FROM v.node_id
    WHERE v.case_group = '*'
),

counted AS (
    SELECT
        run_id, cell_id, node_id,
        count(*) FILTER (WHERE stage <> 'chain' AND verdict IN ('qualified', 'expected', 'divergent')) AS observed,
        count(*) FILTER (WHERE stage <> 'instrument' AND verdict = 'divergent') AS divergent,
        count(*) FILTER (WHERE stage <> 'chain' AND verdict IN ('inconclusive', 'error')) AS isolates_open,
        count(*) FILTER (WHERE is_required AND verdict IN ('qualified', 'expected')) AS passed,
        count(*) FILTER (WHERE is_required AND stage <> 'chain') AS isolates_required,
        count(*) FILTER (WHERE is_required AND stage <> 'chain' AND verdict IN ('qualified', 'expected')) AS isolates_passed,
        string_agg(stage, ', ' ORDER BY ordinal) FILTER (WHERE stage <> 'chain' AND verdict = 'divergent') AS culprits,
        min_by(stage, (stage = 'instrument', ordinal)) FILTER (WHERE stage <> 'chain' AND verdict = 'divergent') AS earliest,
        string_agg(stage || ': ' || coalesce(CASE WHEN verdict = 'divergent' THEN explanation END, reason, verdict), '; ' ORDER BY ordinal)
            FILTER (
                WHERE is_required AND verdict NOT IN ('qualified', 'expected', 'divergent')
                OR stage = 'instrument' AND verdict = 'divergent'
            ) AS open,
        string_agg(format('{} ({} of {})', stage, mismatches, n), ', ' ORDER BY ordinal)
            FILTER (WHERE verdict = 'expected') AS declared,
        max(explanation) FILTER (WHERE stage = 'chain') AS chain_says
    FROM whole
    GROUP BY run_id, cell_id, node_id
),

caused AS (
    SELECT w.run_id, w.cell_id, w.node_id, w.stage, f.details
    FROM whole AS w
    INNER JOIN differing_facts AS f
        ON f.run_id = w.run_id AND f.cell_id = w.cell_id AND f.node_id = w.node_id AND f.stage = w.stage
    WHERE w.verdict = 'divergent' AND w.stage <> 'chain' AND f.details IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY w.run_id, w.cell_id, w.node_id ORDER BY w.ordinal) = 1
),

placed AS (
    SELECT
        p.*, c.* EXCLUDE (run_id, cell_id, node_id), x.details AS fact_details,
        len(p.required) AS required_count, d.reason AS disagreement,
        CASE
            WHEN c.earliest = 'config' THEN coalesce(x.stage, 'config')
            WHEN c.earliest <> 'instrument' THEN c.earliest
            WHEN c.earliest = 'instrument' AND c.divergent = 0 THEN 'instrument'
            WHEN c.divergent > 0 AND p.pass <> 'timed' AND c.earliest IS NULL AND c.isolates_open = 0
                AND c.isolates_required > 0 AND c.isolates_passed = c.isolates_required
                THEN 'interface'
        END AS culprit
    FROM pairs AS p
    INNER JOIN judging AS j ON j.run_id = p.run_id
    LEFT JOIN counted AS c
        ON c.run_id = p.run_id AND c.cell_id = p.cell_id AND c.node_id IS NOT DISTINCT FROM p.node_id
    LEFT JOIN caused AS x
        ON x.run_id = p.run_id AND x.cell_id = p.cell_id AND x.node_id = p.node_id
    LEFT JOIN disagreements AS d
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
