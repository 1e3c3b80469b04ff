-- One row is the stage `logits` of a (cell, node) in one case group.
--
-- The numeric rule. Two probes, prefill and decode: the stage takes the worse. Without a floor nothing is
-- decided: it says how far equal computations lie apart on this backend, which a margin alone does not.
-- Without a working instrument nothing is decided either: numbers that nothing vouches for are no evidence.
-- What diverges says how its KL runs over the positions, which places a fault inside the stage.
--
-- A declared bound excuses a group of cases only where it covers all of them; cases that are declared
-- apart (`numeric.logits_grouped`) are judged on their own, and `*` takes the worse.
WITH coverage AS (
    SELECT
        run_id, cell_id, node_id, attempt, probe, case_group, count(*) AS planned,
        count(*) FILTER (WHERE is_gap) AS gaps,
        count(*) FILTER (WHERE outcome = 'missing') AS missing,
        count(*) FILTER (WHERE outcome = 'error') AS failed,
        count(*) FILTER (WHERE outcome = 'no_truth') AS without_truth,
        count(*) FILTER (WHERE observed = 'reenacted') AS reenacted,
        string_agg(DISTINCT observed, ', ' ORDER BY observed) FILTER (WHERE outcome = 'numeric') AS observed,
        min(case_id) FILTER (WHERE is_gap) AS first_gap_case,
        min_by(case_id || coalesce(': ' || detail, ''), (case_id, detail)) FILTER (WHERE is_gap) AS first_gap,
        CASE WHEN bool_and(bound IS NOT NULL) THEN min(bound) END AS bound,
        min_by(bound_reason, (bound, bound_reason)) AS declared_reason
    FROM numeric.logits_grouped
    GROUP BY ALL
),

tested AS (
    SELECT
        c.*, t.* EXCLUDE (run_id, cell_id, node_id, attempt, probe, case_group), p.margin, p.function_digest,
        p.compute_dtype, p.backend, p.lost_traces,
        coalesce(i.verdict NOT IN ('qualified', 'expected'), true) AS unvouched,
        i.verdict AS instrument_verdict,
        CASE WHEN i.verdict = 'divergent' THEN i.explanation ELSE i.says END AS instrument_says,
        coalesce(t.ci_low > p.margin, false) AS above,
        coalesce(t.adjusted_p <= r.false_discovery_rate, false) AS beyond_floor,
        CASE WHEN starts_with(c.case_group, '*') AND s.shape <> 'flat' THEN s.told END AS profile,
        r.min_floor_configurations
    FROM coverage AS c
    CROSS JOIN sources.rules AS r
    INNER JOIN staging.pairs AS p
        ON p.run_id = c.run_id AND p.cell_id = c.cell_id AND p.node_id = c.node_id
    LEFT JOIN numeric.tests AS t
        ON t.run_id = c.run_id AND t.cell_id = c.cell_id AND t.node_id = c.node_id
        AND t.probe = c.probe AND t.case_group = c.case_group
    LEFT JOIN verdicts.instrument AS i
        ON i.run_id = c.run_id AND i.cell_id = c.cell_id AND i.node_id = c.node_id
    LEFT JOIN numeric.profiles AS s
        ON s.run_id = c.run_id AND s.cell_id = c.cell_id AND s.node_id = c.node_id AND s.probe = c.probe
),

judged AS (
    SELECT
        *,
        CASE
            WHEN unvouched THEN 'inconclusive'
            WHEN nonfinite > 0 THEN 'divergent'
            WHEN margin IS NULL OR mean_kl IS NULL THEN 'inconclusive'
            WHEN above AND beyond_floor
                THEN CASE WHEN ci_high <= bound AND gaps = 0 THEN 'expected' ELSE 'divergent' END
            WHEN gaps > 0 THEN 'inconclusive'
            WHEN reenacted > 0 THEN 'inconclusive'
            WHEN p_value IS NULL THEN 'inconclusive'
            WHEN ci_high < margin THEN 'qualified'
            ELSE 'inconclusive'
        END AS verdict
    FROM tested
),

explained AS (
    SELECT
        *,
        CASE
            WHEN verdict IN ('qualified', 'expected') THEN NULL
            WHEN unvouched THEN wording.instrument_fails(instrument_verdict, instrument_says)
            WHEN nonfinite > 0 THEN wording.not_finite(probe, nonfinite, n)
            WHEN mean_kl IS NULL
                THEN wording.not_compared(probe, gaps, planned, missing, failed, without_truth, first_gap, lost_traces)
            WHEN margin IS NULL THEN wording.no_margin()
            WHEN verdict = 'divergent' THEN wording.kl_too_large(probe)
            WHEN gaps > 0
                THEN wording.not_compared(probe, gaps, planned, missing, failed, without_truth, first_gap, lost_traces)
            WHEN floor_id IS NULL THEN wording.no_floor(probe, function_digest, compute_dtype, backend)
            WHEN p_value IS NULL THEN wording.floor_too_small(probe, floor_id, configurations, needed)
            WHEN above THEN wording.within_floor(probe, p_value, adjusted_p)
            WHEN reenacted > 0 THEN wording.reenacted(probe, reenacted, planned)
            ELSE wording.margin_inside_interval(probe)
        END AS reason,
        wording.mean_kl(probe, mean_kl, ci_low, ci_high, margin, flips, n)
        || CASE
            WHEN nonfinite > 0 THEN wording.where_not_finite(nonfinite, n, first_nonfinite_case)
            WHEN verdict = 'divergent' THEN wording.worst(worst_case, worst_position, profile)
            WHEN verdict = 'expected'
                THEN
                    wording.within_declared_bound(
                        bound, declared_reason, CASE WHEN starts_with(case_group, '*bound') THEN planned END
                    )
            ELSE ''
        END
        || CASE
            WHEN p_value IS NOT NULL AND configurations < min_floor_configurations
                THEN wording.floor_with_prior(configurations, degrees)
            ELSE ''
        END AS explanation
    FROM judged
),

worse AS (
    SELECT * REPLACE (CASE WHEN starts_with(case_group, '*') THEN '*' ELSE case_group END AS case_group)
    FROM explained
    QUALIFY row_number() OVER (
        PARTITION BY run_id, cell_id, node_id, CASE WHEN starts_with(case_group, '*') THEN '*' ELSE case_group END
        ORDER BY
            list_position(['divergent', 'inconclusive', 'expected', 'qualified'], verdict),
            mean_kl DESC NULLS FIRST,
            probe DESC
    ) = 1
)

SELECT
    g.run_id, g.cell_id, g.node_id, g.attempt, g.stage, coalesce(w.case_group, '*') AS case_group,
    CASE
        WHEN g.star IS NOT NULL THEN 'not_observed'
        WHEN w.verdict IS NOT NULL THEN w.verdict
        WHEN g.planned = 0 THEN 'not_observed'
        ELSE 'inconclusive'
    END AS verdict,
    CASE
        WHEN g.star IS NOT NULL THEN wording.not_shown(g.star, g.star_error)
        WHEN w.verdict IS NOT NULL THEN w.reason
        WHEN g.planned = 0 THEN wording.no_case()
        ELSE wording.no_trace(g.lost_traces)
    END AS reason,
    coalesce(g.star, w.observed) AS observed,
    CASE WHEN g.star IS NULL THEN coalesce(w.n, 0)::BIGINT END AS n,
    w.flips::BIGINT AS mismatches, w.mean_kl AS effect, w.ci_low, w.ci_high, w.margin, w.p_value,
    CASE
        WHEN w.nonfinite > 0 THEN w.first_nonfinite_case
        WHEN w.mean_kl IS NULL THEN w.first_gap_case
        ELSE w.worst_case
    END AS first_case,
    CASE WHEN g.star IS NULL THEN w.explanation END AS explanation,
    w.reference_id, w.floor_id
FROM staging.stage_grid AS g
LEFT JOIN worse AS w
    ON w.run_id = g.run_id AND w.cell_id = g.cell_id AND w.node_id = g.node_id AND g.star IS NULL
WHERE g.stage = 'logits'
