-- One row is a probe of a case in an attempt and a declared difference that covers it.
--
-- Each expected entry beside the judged rows of its scope; `hit` where the declared output came
-- out, or where a stage that compares the engine with itself differs by no more than the declared bound. No bound
-- covers NaN.
SELECT
    a.comparison_id, e.run_id, e.entry, e.stage, e.reason, e.bound, p.cell_id, p.node_id, a.attempt, a.case_id,
    a.tags, e.case_pattern IS NOT NULL OR e.tags IS NOT NULL AS is_scoped,
    a.outcome = 'mismatch' AND (
        coalesce(a.payload_digest = e.signature, false)
        OR a.stage IN ('state', 'sampling') AND coalesce(a.effect <= e.bound, false) AND coalesce(a.nonfinite, 0) = 0
    ) AS hit
FROM sources.expected_entries AS e
INNER JOIN staging.pairs AS p
    ON e.run_id = p.run_id AND (e.engine IS NULL OR e.engine IN (p.engine, p.engine_kind))
    AND (e.serving IS NULL OR e.serving = p.serving)
    AND (e.versions IS NULL OR version_in(p.engine_version, e.versions))
INNER JOIN compared.comparisons AS a
    ON p.run_id = a.run_id AND p.cell_id = a.cell_id AND p.node_id = a.node_id AND a.judged
    AND e.stage = a.stage
    AND (e.case_pattern IS NULL OR a.case_id GLOB e.case_pattern)
    AND (e.tags IS NULL OR list_has_any(e.tags, a.tags))
