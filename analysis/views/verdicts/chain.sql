-- One row is the chain of a (cell, node) in one case group.
--
-- The chain: qualified when every answer is equal or a tie; a symptom that declared upstream
-- differences account for is `expected`; one under a broken instrument is inconclusive; any other is
-- divergent. A case that the engine cannot be asked (a server takes no such option) is named and judges nothing.
WITH counted AS (
    SELECT
        g.run_id, g.cell_id, g.node_id, g.attempt, g.case_group,
        count(*) FILTER (WHERE g.outcome <> 'not_observed') AS n,
        count(*) FILTER (WHERE g.is_divergent OR g.is_expected) AS mismatches,
        count(*) FILTER (WHERE g.is_divergent AND s.cause IS NULL) AS unexplained,
        count(*) FILTER (WHERE g.is_divergent AND s.cause_verdict = 'divergent' AND s.cause <> 'instrument') AS caused,
        count(*) FILTER (WHERE g.is_divergent AND s.cause = 'instrument') AS unsteady,
        count(*) FILTER (WHERE g.is_divergent AND s.cause_verdict = 'expected') AS declared,
        count(*) FILTER (WHERE g.is_expected) AS expected,
        count(*) FILTER (WHERE g.outcome = 'tie') AS ties,
        count(*) FILTER (WHERE g.is_gap) AS gaps,
        count(*) FILTER (WHERE g.outcome = 'missing') AS missing,
        count(*) FILTER (WHERE g.outcome = 'error') AS failed,
        count(*) FILTER (WHERE g.outcome = 'no_truth') AS without_truth,
        count(*) FILTER (WHERE g.observed = 'reenacted') AS reenacted,
        string_agg(DISTINCT s.cause, ', ' ORDER BY s.cause) FILTER (WHERE s.cause <> 'instrument') AS causes,
        string_agg(DISTINCT g.expected_reason, '; ' ORDER BY g.expected_reason) AS expected_reasons,
        string_agg(DISTINCT g.observed, ', ' ORDER BY g.observed) FILTER (WHERE g.outcome <> 'missing') AS observed,
        coalesce(
            min(g.case_id) FILTER (WHERE g.is_divergent AND s.cause IS NULL),
            min(g.case_id) FILTER (WHERE g.is_divergent), min(g.case_id) FILTER (WHERE g.is_expected),
            min(g.case_id) FILTER (WHERE g.is_gap), min(g.case_id) FILTER (WHERE g.outcome = 'tie')
        ) AS first_case,
        min_by(g.detail, (s.cause IS NOT NULL, g.case_id, g.detail)) FILTER (WHERE g.is_divergent) AS first_detail,
        min_by(g.case_id || coalesce(': ' || g.detail, ''), (g.case_id, g.detail)) FILTER (WHERE g.is_gap) AS first_gap,
        string_agg(DISTINCT g.case_id, ', ' ORDER BY g.case_id) FILTER (WHERE g.outcome = 'not_observed')
            AS unseen_cases,
        min(g.reference_id) AS reference_id
    FROM chain.grouped AS g
    LEFT JOIN chain.symptoms AS s USING (observation_id)
    GROUP BY g.run_id, g.cell_id, g.node_id, g.attempt, g.case_group
),

judged AS (
    SELECT
        g.run_id, g.cell_id, g.node_id, g.attempt, g.stage, g.star, g.star_error, g.lost_traces, g.planned,
        coalesce(c.case_group, '*') AS case_group,
        c.* EXCLUDE (run_id, cell_id, node_id, attempt, case_group, observed),
        coalesce(g.star, c.observed) AS observed, f.floor_id,
        CASE
            WHEN g.star IS NOT NULL THEN 'not_observed'
            WHEN g.planned = 0 THEN 'not_observed'
            WHEN c.unexplained > 0 OR c.caused > 0 THEN 'divergent'
            WHEN coalesce(c.n, 0) = 0 AND c.unseen_cases IS NOT NULL THEN 'not_observed'
            WHEN coalesce(c.n, 0) = 0 OR c.gaps > 0 OR c.reenacted > 0 OR c.unsteady > 0 THEN 'inconclusive'
            WHEN c.declared > 0 OR c.expected > 0 THEN 'expected'
            ELSE 'qualified'
        END AS verdict
    FROM staging.stage_grid AS g
    LEFT JOIN counted AS c USING (run_id, cell_id, node_id)
    LEFT JOIN numeric.pair_floors AS f USING (run_id, cell_id, node_id)
    WHERE g.stage = 'chain'
)

SELECT
    run_id, cell_id, node_id, attempt, stage, case_group, verdict,
    CASE
        WHEN star IS NOT NULL THEN wording.not_shown(star, star_error)
        WHEN planned = 0 THEN wording.no_case()
        WHEN verdict = 'divergent' THEN wording.answers_differ(mismatches, n, unexplained, causes, gaps)
        WHEN verdict = 'expected' THEN wording.answers_differ_as_declared(mismatches, n)
        WHEN verdict = 'not_observed' THEN wording.none_can_be_asked()
        WHEN coalesce(n, 0) = 0 THEN wording.no_trace(lost_traces)
        WHEN gaps > 0 THEN wording.not_compared(NULL, gaps, n, missing, failed, without_truth, first_gap, lost_traces)
        WHEN unsteady > 0 THEN wording.instrument_fails_answers(unsteady, n)
        WHEN verdict = 'inconclusive' THEN wording.reenacted(NULL, reenacted, n)
    END AS reason,
    observed, n, mismatches, first_case,
    CASE
        WHEN verdict = 'divergent' THEN wording.first_answer(first_case, first_detail, failed, first_gap)
        WHEN verdict = 'expected' THEN coalesce('explained by ' || causes, expected_reasons)
        WHEN verdict = 'qualified' THEN format('all {} answers agree', n)
    END
    || CASE WHEN ties > 0 THEN format(' ({} ties)', ties) ELSE '' END
    || CASE
        WHEN unseen_cases IS NOT NULL AND star IS NULL
            THEN format(' (this engine does not take: {})', unseen_cases)
        ELSE ''
    END AS explanation,
    reference_id, floor_id, unexplained
FROM judged
