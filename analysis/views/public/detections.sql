-- One row is a case of a stage in a (cell, node), and whether it alone shows an undeclared difference.
--
-- Which case detects what, and at what cost: would the case alone show an undeclared difference?
--
-- Exact stages, state and sampling: an undeclared mismatch (a tie is none). Logits: NaN, or a mean KL of
-- the case above the margin and above the mean of every benign configuration, and beyond its declared bound;
-- nothing of it where no working instrument vouches for the numbers.
-- What was not compared detects nothing (`compared`). Cost counts the planned probes only: `seconds` of
-- those that were timed, `tokens` of prompts and answers as far as they are shown or counted. For example the
-- cheapest cases that found something:
--   SELECT case_id, count(*) AS faults, avg(seconds) FROM detections WHERE detected GROUP BY ALL ORDER BY 3
WITH probed AS (
    SELECT
        a.run_id, a.cell_id, a.node_id, a.attempt, a.stage, a.probe, a.case_id, a.outcome, a.detail, a.effect,
        a.outcome IN ('match', 'mismatch', 'tie', 'noted', 'numeric') AS compared,
        CASE
            WHEN a.outcome = 'numeric'
                THEN coalesce(i.verdict IN ('qualified', 'expected'), false) AND (
                    a.nonfinite > 0
                    OR a.effect > p.margin AND a.effect > f.max_mean_kl AND a.effect > coalesce(b.bound, 0)
                )
            ELSE a.outcome = 'mismatch' AND h.comparison_id IS NULL
        END AS detected,
        t.seconds, t.case_id IS NOT NULL AS was_probed,
        coalesce(nullif(len(t.prompt_ids), 0), k.prompt_tokens, 0)
        + coalesce(len(t.output_ids), k.output_tokens, 0) AS tokens
    FROM chain.alignments AS a
    INNER JOIN staging.pairs AS p
        ON p.run_id = a.run_id AND p.cell_id = a.cell_id AND p.node_id = a.node_id
    LEFT JOIN compared.hits AS h ON h.comparison_id = a.comparison_id
    LEFT JOIN compared.bounded_cases AS b
        ON b.run_id = a.run_id AND b.cell_id = a.cell_id AND b.node_id = a.node_id AND b.attempt = a.attempt
        AND b.case_id = a.case_id AND a.stage = 'logits'
    LEFT JOIN numeric.pair_floors AS o
        ON o.run_id = a.run_id AND o.cell_id = a.cell_id AND o.node_id = a.node_id
    LEFT JOIN numeric.floor_fits AS f
        ON f.run_id = o.run_id AND f.floor_id = o.floor_id AND f.function_digest = o.function_digest
        AND f.probe = a.probe
    LEFT JOIN verdicts AS i
        ON i.run_id = a.run_id AND i.cell_id = a.cell_id AND i.node_id = a.node_id
        AND i.stage = 'instrument' AND i.case_group = '*'
    LEFT JOIN traces AS t ON a.trace_row = t.rowid
    LEFT JOIN staging.token_counts AS k ON a.trace_row = k.trace_row
    WHERE a.judged
)

SELECT
    run_id, cell_id, node_id, attempt, stage, case_id,
    coalesce(bool_or(detected), false) AS detected,
    bool_or(compared) AS compared,
    count(*) FILTER (WHERE was_probed) AS probes,
    sum(seconds) AS seconds,
    sum(tokens)::BIGINT AS tokens,
    min_by(coalesce(detail, format('{}: mean KL {:.2g}', probe, effect), probe), (probe, detail)) FILTER (
        WHERE detected
    ) AS detail
FROM probed
GROUP BY ALL
