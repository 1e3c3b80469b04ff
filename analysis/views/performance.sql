-- Timings of judged attempts, beside the verdict of their cell: what diverges is shown, never ranked.
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
)

SELECT
    p.run_id, p.cell_id, p.series_id, p.suite, p.model, p.variant, p.engine, p.engine_version,
    p.engine_build, p.serving, p.backend, p.pass, p.compute_dtype, p.kv_dtype, p.hardware, p.node_id,
    p.device_count, p.driver, p.attempt, t.load_pattern, t.concurrency, t.requests, t.failed,
    t.prompt_tokens, t.output_tokens, t.ttft_p50_s, t.ttft_p95_s,
    list_aggregate(t.gaps, 'median') AS itl_p50_s,
    t.e2el_p50_s, t.e2el_p95_s, t.output_tokens_per_s, a.load_s, a.duration_s, a.peak_memory,
    q.verdict, q.verdict = 'qualified' AS rankable
FROM timed AS t
INNER JOIN pairs AS p
    ON p.run_id = t.run_id AND p.cell_id = t.cell_id AND p.node_id = t.node_id AND p.judged_attempt = t.attempt
INNER JOIN attempts AS a
    ON a.run_id = t.run_id AND a.cell_id = t.cell_id AND a.node_id = t.node_id AND a.attempt = t.attempt
LEFT JOIN qualification AS q
    ON q.run_id = p.run_id AND q.cell_id = p.cell_id AND q.node_id = p.node_id
