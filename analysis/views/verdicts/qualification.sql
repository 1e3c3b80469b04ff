-- One row is a (cell, node) of a run that is judged now.
--
-- One verdict per (cell, node): its culprit, whether that is confirmed, and its scope.
SELECT
    q.run_id, q.cell_id, q.series_id, q.suite, q.model, q.variant, q.engine, q.engine_version,
    q.engine_build, q.serving, q.backend, q.pass, q.compute_dtype, q.kv_dtype, q.hardware, q.node_id,
    q.device_count, q.driver, q.attempt, q.verdict, q.culprit,
    coalesce(q.culprits, q.culprit) AS culprits,
    coalesce(c.confirmed, 'not_applicable') AS confirmed,
    array_to_string(q.required, ', ') AS required,
    format('{} of {}', coalesce(q.observed, 0), (SELECT count(*) FROM sources.stages WHERE stage <> 'chain'))
        AS observed_stages,
    CASE q.verdict
        WHEN 'error' THEN wording.no_attempt(q.failure)
        WHEN 'divergent' THEN
            CASE
                WHEN q.is_set THEN wording.hidden_culprit(q.culprit, q.set_says, q.set_cases)
                WHEN q.culprit = 'interface' THEN wording.interface(q.chain_says)
                WHEN q.culprit IS NULL THEN wording.not_placed(q.chain_says, q.pass = 'timed', q.open)
                WHEN q.earliest = 'config' AND q.culprit <> 'config'
                    THEN wording.fact_explains(q.culprit, q.fact_details, w.explanation)
                ELSE wording.stage_differs(q.culprit, h.hints, coalesce(w.explanation, w.reason))
            END
        WHEN 'not_observed' THEN wording.timed_only()
        WHEN 'qualified' THEN wording.agrees(q.declared, q.unchecked)
        ELSE wording.undecided(q.open, q.disagreement)
    END
    || coalesce(' (' || c.told || ')', '')
    || CASE
        WHEN q.verdict = 'error' OR q.verdict = 'inconclusive' AND list_contains(q.required, 'chain') THEN ''
        ELSE coalesce('; ' || q.chain_failed, '')
    END AS explanation
FROM verdicts.blamed AS q
LEFT JOIN verdicts.confirmations AS c
    ON c.run_id = q.run_id AND c.cell_id = q.cell_id AND c.node_id = q.node_id
LEFT JOIN verdicts.verdicts AS w
    ON w.run_id = q.run_id AND w.cell_id = q.cell_id AND w.node_id IS NOT DISTINCT FROM q.node_id
    AND w.stage = q.culprit AND w.case_group = '*'
LEFT JOIN compared.differing_facts AS h
    ON h.run_id = q.run_id AND h.cell_id = q.cell_id AND h.node_id = q.node_id AND h.stage = q.culprit
ORDER BY q.run_id, q.suite, q.model, q.variant, q.engine, q.pass, q.cell_id, q.node_id
