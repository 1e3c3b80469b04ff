-- One row is an attempt whose forced rows can be held against its own greedy answers.
--
-- Whether an attempt's forced rows stand where they say: the engine's own greedy answers against the most
-- probable token of the row that predicts it (`unshifted`), of the row before (`earlier`) and of the row
-- after (`later`), as shares of all tokens of its `aligned` probes.
--
-- `shift` is -1 or 1 where that neighbour agrees and the row itself does not: then every number is the
-- number of another position. Plain disagreement is no shift: the answer was not greedy (`sampling`).
WITH answers AS (
    SELECT
        t.run_id, t.cell_id, t.node_id, t.attempt, t.output_ids, t.top_ids,
        TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.first' AS INTEGER)::BIGINT + 1 AS first
    FROM traces AS t
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id, attempt)
    WHERE t.stage = 'instrument' AND t.probe = 'aligned' AND t.error IS NULL
        AND t.output_ids IS NOT NULL AND t.top_ids IS NOT NULL
        AND TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.first' AS INTEGER) >= 0
),

tokens AS (
    SELECT
        run_id, cell_id, node_id, attempt, unnest(output_ids) AS taken,
        first + generate_subscripts(output_ids, 1) - 1 AS here, top_ids
    FROM answers
),

shares AS (
    SELECT
        run_id, cell_id, node_id, attempt, count(*) AS tokens,
        avg((taken IS NOT DISTINCT FROM top_ids[here][1])::INTEGER) AS unshifted,
        avg((here > 1 AND taken IS NOT DISTINCT FROM top_ids[here - 1][1])::INTEGER) AS earlier,
        avg((taken IS NOT DISTINCT FROM top_ids[here + 1][1])::INTEGER) AS later
    FROM tokens
    GROUP BY ALL
)

SELECT
    s.*,
    CASE
        WHEN s.tokens < r.min_aligned_tokens OR s.unshifted >= r.aligned_share THEN NULL
        WHEN greatest(s.earlier, s.later) < r.aligned_share THEN NULL
        WHEN s.earlier > s.later THEN -1
        ELSE 1
    END AS shift
FROM shares AS s
CROSS JOIN sources.rules AS r
