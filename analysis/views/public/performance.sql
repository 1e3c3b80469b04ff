-- One row is a load pattern and concurrency of a judged attempt.
--
-- Timings of judged attempts, beside the verdict that vouches for them: what diverges is shown, never
-- ranked.
--
-- A timed cell promises no verdict of its own. The same thing as served is judged in the `deployed` pass
-- on the same node, so that verdict stands here, the worst if there are several; without one the timed
-- cell is not ranked, because speed alone says nothing. One whose own chain diverges never is. The
-- instrumented passes are slowed by their probes and do not run as served: they are ranked, by their own
-- verdict, only where no timed cell brought numbers for the same thing.
WITH timed AS (
    SELECT
        run_id, cell_id, node_id, attempt, load_pattern, concurrency,
        count(*) FILTER (WHERE ok) AS requests,
        count(*) FILTER (WHERE NOT ok) AS failed,
        sum(prompt_tokens) FILTER (WHERE ok) AS prompt_tokens,
        sum(output_tokens) FILTER (WHERE ok) AS output_tokens,
        median(ttft_s) FILTER (WHERE ok) AS ttft_p50_s,
        quantile_cont(ttft_s, 0.95) FILTER (WHERE ok) AS ttft_p95_s,
        median(e2el_s) FILTER (WHERE ok) AS e2el_p50_s,
        quantile_cont(e2el_s, 0.95) FILTER (WHERE ok) AS e2el_p95_s,
        sum(output_tokens) FILTER (WHERE ok AND e2el_s > 0)
        / nullif(sum(e2el_s) FILTER (WHERE ok AND e2el_s > 0), 0) AS output_tokens_per_s,
        flatten(list(itl_s) FILTER (WHERE ok)) AS gaps
    FROM requests
    GROUP BY ALL
),

served AS (
    SELECT
        *, json_object(
            'suite', suite, 'model', model, 'variant', variant, 'engine', engine, 'serving', serving,
            'backend', backend, 'node', node_id
        )::VARCHAR AS thing
    FROM qualification
),

deployed AS (
    SELECT
        run_id, thing,
        min_by(verdict, list_position(['divergent', 'error', 'inconclusive', 'not_observed', 'qualified'], verdict))
            AS verdict
    FROM served
    WHERE pass = 'deployed'
    GROUP BY ALL
),

timed_things AS (
    SELECT DISTINCT s.run_id, s.thing
    FROM served AS s
    INNER JOIN timed AS t ON t.run_id = s.run_id AND t.cell_id = s.cell_id AND t.node_id = s.node_id
    WHERE s.pass = 'timed' AND t.requests > 0
)

SELECT
    p.run_id, p.cell_id, p.series_id, p.suite, p.model, p.variant, p.engine, p.engine_version,
    p.engine_build, p.serving, p.backend, p.pass, p.compute_dtype, p.kv_dtype, p.hardware, p.node_id,
    p.device_count, p.driver, p.attempt, t.load_pattern, t.concurrency, t.requests, t.failed,
    t.prompt_tokens, t.output_tokens, t.ttft_p50_s, t.ttft_p95_s,
    list_aggregate(t.gaps, 'median') AS itl_p50_s,
    t.e2el_p50_s, t.e2el_p95_s, t.output_tokens_per_s, a.load_s, a.duration_s, a.peak_memory,
    CASE WHEN p.pass = 'timed' AND q.verdict = 'not_observed' THEN coalesce(d.verdict, q.verdict) ELSE q.verdict END
        AS verdict,
    CASE
        WHEN p.pass = 'timed' THEN q.verdict <> 'divergent' AND coalesce(d.verdict = 'qualified', false)
        ELSE q.verdict = 'qualified' AND x.thing IS NULL
    END AS rankable
FROM timed AS t
INNER JOIN staging.pairs AS p
    ON p.run_id = t.run_id AND p.cell_id = t.cell_id AND p.node_id = t.node_id AND p.judged_attempt = t.attempt
INNER JOIN attempts AS a
    ON a.run_id = t.run_id AND a.cell_id = t.cell_id AND a.node_id = t.node_id AND a.attempt = t.attempt
LEFT JOIN served AS q
    ON q.run_id = p.run_id AND q.cell_id = p.cell_id AND q.node_id = p.node_id
LEFT JOIN deployed AS d ON d.run_id = q.run_id AND d.thing = q.thing
LEFT JOIN timed_things AS x ON x.run_id = q.run_id AND x.thing = q.thing
