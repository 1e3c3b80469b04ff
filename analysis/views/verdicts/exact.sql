-- One row is an exactly compared stage of a (cell, node) in one case group.
--
-- Verdicts of the stages that are compared exactly, and of the instrument, `state` and `sampling`. The chain and the
-- logits have their own relations.
--
-- Divergent on one unexpected mismatch; else inconclusive on one gap, because missing is never a
-- match; reenacted evidence can show a divergence, it never alone qualifies.
WITH counted AS (
    SELECT
        run_id, cell_id, node_id, attempt, stage, case_group,
        count(*) FILTER (WHERE outcome <> 'not_observed') AS n,
        count(*) FILTER (WHERE is_divergent OR is_expected) AS mismatches,
        count(*) FILTER (WHERE is_divergent) AS divergent,
        count(*) FILTER (WHERE is_expected) AS expected,
        count(*) FILTER (WHERE outcome = 'missing') AS missing,
        count(*) FILTER (WHERE outcome = 'error') AS failed,
        count(*) FILTER (WHERE outcome = 'no_truth') AS without_truth,
        count(*) FILTER (WHERE is_gap) AS gaps,
        count(*) FILTER (WHERE outcome = 'not_observed') AS unseen,
        string_agg(DISTINCT case_id, ', ' ORDER BY case_id) FILTER (WHERE outcome = 'not_observed') AS unseen_cases,
        min(observed) FILTER (WHERE outcome = 'not_observed') AS unseen_how,
        -- The least that these tests would have shown, said of the weakest; what tells no least shows nothing.
        max_by(detail, (coalesce(detectable, 'inf'::DOUBLE), detail)) FILTER (
            WHERE outcome = 'match' AND stage = 'sampling'
        ) AS weakest,
        list(
            case_id || coalesce(': ' || detail, '') ORDER BY severity DESC NULLS LAST, case_id, probe, repeat
        ) FILTER (WHERE is_divergent) AS cases_told,
        count(*) FILTER (WHERE outcome <> 'not_observed' AND observed = 'reenacted') AS reenacted,
        string_agg(DISTINCT observed, ', ' ORDER BY observed) FILTER (
            WHERE outcome NOT IN ('missing', 'not_observed')
        ) AS observed,
        coalesce(
            min_by(case_id, (-coalesce(severity, 0), case_id)) FILTER (WHERE is_divergent),
            min(case_id) FILTER (WHERE is_expected), min(case_id) FILTER (WHERE is_gap)
        ) AS first_case,
        min_by(detail, (-coalesce(severity, 0), case_id, detail)) FILTER (WHERE is_divergent) AS worst_detail,
        string_agg(detail, '; ' ORDER BY severity DESC NULLS LAST, case_id, detail) FILTER (WHERE is_divergent)
            AS details,
        min_by(case_id || ': ' || coalesce(detail, 'no reason recorded'), (case_id, detail)) FILTER (WHERE is_gap)
            AS first_gap,
        string_agg(DISTINCT expected_reason, '; ' ORDER BY expected_reason) FILTER (WHERE is_expected)
            AS expected_reasons,
        string_agg(detail, '; ' ORDER BY case_id, detail) FILTER (WHERE outcome = 'noted') AS notes,
        max(effect) AS effect,
        string_agg(DISTINCT truth, ', ' ORDER BY truth) AS truth,
        min(reference_id) AS reference_id
    FROM compared.grouped
    WHERE stage NOT IN ('logits', 'chain')
    GROUP BY run_id, cell_id, node_id, attempt, stage, case_group
),

grid AS (
    SELECT g.*, d.reason AS disagreement
    FROM staging.stage_grid AS g
    LEFT JOIN compared.disagreements AS d
        ON g.stage = 'instrument' AND d.run_id = g.run_id AND d.cell_id = g.cell_id AND d.node_id = g.node_id
    WHERE g.stage NOT IN ('logits', 'chain')
),

repeats_asked AS (
    SELECT run_id, cell_id, node_id, attempt, count(DISTINCT probe) AS probes
    FROM compared.comparisons
    WHERE judged AND stage = 'instrument' AND outcome NOT IN ('error', 'not_observed')
    GROUP BY ALL
),

judged AS (
    SELECT
        g.run_id, g.cell_id, g.node_id, g.attempt, g.stage, coalesce(c.case_group, '*') AS case_group,
        CASE
            WHEN c.divergent > 0 THEN 'divergent'
            WHEN g.disagreement IS NOT NULL THEN 'inconclusive'
            WHEN g.star IS NOT NULL THEN 'not_observed'
            WHEN coalesce(c.n, 0) = 0 AND g.lost_traces IS NOT NULL THEN 'inconclusive'
            WHEN coalesce(c.n, 0) = 0 AND coalesce(c.unseen, 0) > 0 THEN 'not_observed'
            WHEN g.takes = 'cases' AND g.planned = 0 THEN 'not_observed'
            WHEN coalesce(c.n, 0) = 0 THEN 'inconclusive'
            WHEN c.gaps > 0 THEN 'inconclusive'
            WHEN g.takes = 'none' AND g.lost_traces IS NOT NULL THEN 'inconclusive'
            WHEN g.stage = 'instrument' AND coalesce(i.probes, 0) < r.instrument_probes THEN 'inconclusive'
            WHEN c.reenacted > 0 THEN 'inconclusive'
            WHEN c.expected > 0 THEN 'expected'
            ELSE 'qualified'
        END AS verdict,
        c.* EXCLUDE (run_id, cell_id, node_id, attempt, stage, case_group, observed),
        coalesce(g.star, c.observed) AS observed,
        g.star, g.star_error, g.lost_traces, g.planned, g.unasked, g.takes, g.disagreement,
        coalesce(i.probes, 0) AS repeats, r.instrument_probes
    FROM grid AS g
    CROSS JOIN sources.rules AS r
    LEFT JOIN counted AS c
        ON g.run_id = c.run_id AND g.cell_id = c.cell_id AND g.node_id = c.node_id AND g.stage = c.stage
    LEFT JOIN repeats_asked AS i
        ON g.run_id = i.run_id AND g.cell_id = i.cell_id AND g.node_id = i.node_id
)

SELECT
    run_id, cell_id, node_id, attempt, stage, case_group, verdict,
    CASE verdict
        WHEN 'divergent' THEN wording.differ(divergent, n, gaps)
        WHEN 'expected' THEN wording.differ_as_declared(expected, n)
        WHEN 'not_observed' THEN
            CASE
                WHEN star IS NOT NULL THEN wording.not_shown(star, star_error)
                WHEN planned = 0 AND takes = 'cases' THEN wording.no_case(why := unasked)
                WHEN unseen_how = 'absent' THEN wording.absent()
                WHEN unseen_how IN ('path', 'endpoint', 'reenacted') THEN wording.none_occurred()
                ELSE wording.hidden()
            END
        WHEN 'inconclusive' THEN
            CASE
                WHEN disagreement IS NOT NULL THEN wording.attempts_disagree(disagreement)
                WHEN coalesce(n, 0) = 0 OR (takes = 'none' AND gaps = 0 AND lost_traces IS NOT NULL)
                    THEN wording.no_trace(lost_traces)
                WHEN gaps > 0
                    THEN
                        wording.not_compared(
                            NULL, gaps, greatest(n, gaps), missing, failed, without_truth, first_gap, lost_traces
                        )
                WHEN stage = 'instrument' AND repeats < instrument_probes
                    THEN wording.too_few_repeats(repeats, instrument_probes)
                ELSE wording.reenacted(NULL, reenacted, n)
            END
    END AS reason,
    observed, n, mismatches, effect, first_case,
    CASE verdict
        WHEN 'divergent' THEN
            CASE
                WHEN stage IN ('config', 'instrument') THEN details
                WHEN stage IN ('state', 'sampling')
                    THEN
                        format('{} of {} differ; ', divergent, n)
                        || array_to_string(cases_told[:3], '; ')
                        || wording.and_more(divergent, 3)
                WHEN stage = 'weights'
                    THEN array_to_string(string_split(details, '; ')[:3], '; ') || wording.and_more(divergent, 3)
                ELSE wording.differ_from_truth(divergent, n, truth, first_case, worst_detail)
            END
        WHEN 'expected' THEN format('{} of {} differ as declared: {}', expected, n, expected_reasons)
        WHEN 'qualified' THEN format('all {} agree', n) || coalesce(format(' ({})', weakest), '')
    END
    || wording.noted(notes)
    || CASE WHEN unseen > 0 AND star IS NULL THEN format(' (not shown: {})', unseen_cases) ELSE '' END AS explanation,
    reference_id
FROM judged
