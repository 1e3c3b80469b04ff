-- One row is a probe of a case in an attempt and a declared difference that covers it.
--
-- Each expected entry beside the judged rows of its scope; `hit` where the declared output came
-- out: the very payload (`p1:`), the compared output (`o1:`), or draws or a greedy answer that follow the declared
-- sampler;
-- or where a stage that compares the engine with itself differs by no more than the declared bound. No bound
-- covers NaN. `follows`: they follow the declared sampler, also where the request's own explains them.
WITH covered AS (
    SELECT
        a.comparison_id, e.run_id, e.entry, e.stage, e.reason, e.bound, p.cell_id, p.node_id, a.attempt, a.case_id,
        a.tags, e.case_pattern IS NOT NULL OR e.tags IS NOT NULL AS is_scoped, e.signature, e.sampler, a.outcome,
        a.payload_digest, a.seen, a.effect, a.nonfinite, a.trace_row
    FROM sources.expected_entries AS e
    INNER JOIN staging.pairs AS p
        ON e.run_id = p.run_id AND (e.engine IS NULL OR e.engine IN (p.engine, p.engine_kind))
        AND (e.serving IS NULL OR e.serving = p.serving)
        AND (e.model IS NULL OR e.model = p.model)
        AND (e.suite IS NULL OR e.suite = p.suite)
        AND (e.versions IS NULL OR version_in(p.engine_version, e.versions))
    INNER JOIN compared.comparisons AS a
        ON p.run_id = a.run_id AND p.cell_id = a.cell_id AND p.node_id = a.node_id AND a.judged
        AND e.stage = a.stage
        AND (e.case_pattern IS NULL OR a.case_id GLOB e.case_pattern)
        AND (e.tags IS NULL OR list_has_any(e.tags, a.tags))
),

-- Greedy answers that follow another definition of the penalties to the last token.
penalised AS (
    SELECT trace_row, definition
    FROM numeric.greedy_tokens
    GROUP BY ALL
    HAVING NOT bool_or(violates OR unknown)
),

drawn AS (
    SELECT
        c.* EXCLUDE (trace_row),
        g.trace_row IS NOT NULL OR coalesce(
            fits_sampler(
                t.top_ids[1], t.ref_topk_logprobs[1], t.value, c.sampler, r.draws_alpha, r.min_expected_draws
            ),
            false
        ) AS follows
    FROM covered AS c
    CROSS JOIN sources.rules AS r
    LEFT JOIN traces AS t ON c.sampler IS NOT NULL AND t.rowid = c.trace_row AND t.probe = 'draws'
    LEFT JOIN penalised AS g ON c.trace_row = g.trace_row AND c.sampler ->> '$.penalty' = g.definition
)

SELECT
    * EXCLUDE (signature, sampler, outcome, payload_digest, seen, effect, nonfinite),
    outcome = 'mismatch' AND (
        follows OR coalesce(payload_digest = signature, false)
        OR starts_with(signature, 'o1:') AND coalesce(output_digest(stage, seen) = signature, false)
        OR stage IN ('state', 'sampling') AND coalesce(effect <= bound, false) AND coalesce(nonfinite, 0) = 0
    ) AS hit
FROM drawn
