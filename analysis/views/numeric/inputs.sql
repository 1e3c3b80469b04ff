-- One row is two numeric traces to be compared: lists of log-probabilities p (truth) and q (seen).
-- trace_row, other_row: the seen trace and the one that it is compared with; null where that is the reference.
-- materialised: no (holds the full lists; read once, by `positions`)
-- Every two distributions that are compared: p is the truth, q the candidate, over p's top-k ids and
-- the tail outside them. Equal payload digests are bitwise equal and are not compared again.
--
-- `state` traces may begin at a later row than what was asked alone (`first`, 1-based): positions count
-- from there.
WITH repeats AS (
    SELECT t.*, t.rowid AS trace_row
    FROM traces AS t
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id, attempt)
    WHERE t.stage = 'instrument' AND a.judged AND t.ref_topk_logprobs IS NOT NULL
),

-- Payload digests cover the scenario too, so bits are compared themselves.
scenes AS (
    SELECT
        b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id, b.repeat,
        b.trace_row, a.trace_row AS alone_row,
        1 + coalesce(TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.start' AS INTEGER), 0)::BIGINT AS first
    FROM staging.self_traces AS b
    INNER JOIN staging.self_traces AS a USING (run_id, cell_id, node_id, attempt, stage, case_id)
    INNER JOIN traces AS t ON b.trace_row = t.rowid
    INNER JOIN traces AS f ON a.trace_row = f.rowid
    WHERE b.stage = 'state' AND b.gap IS NULL AND a.gap IS NULL
        AND a.probe = 'alone' AND b.probe NOT IN ('alone', 'concurrent')
    -- Behind a window: as conditions of a join these would pair all traces with equal prompts first.
    QUALIFY row_number() OVER (PARTITION BY b.trace_row, a.trace_row) = 1
        AND t.prompt_ids = f.prompt_ids AND len(t.ref_topk_logprobs) = len(t.tail_logprob)
        AND len(t.ref_topk_logprobs[1]) = len(f.ref_topk_logprobs[1])
        AND first >= 1 AND first + len(t.ref_topk_logprobs) - 1 <= len(f.ref_topk_logprobs)
        AND (
            t.ref_topk_logprobs <> f.ref_topk_logprobs[first:first + len(t.ref_topk_logprobs) - 1]
            OR t.tail_logprob <> f.tail_logprob[first:first + len(t.tail_logprob) - 1]
        )
),

chosen AS (
    SELECT
        'reference' AS kind, o.run_id, o.cell_id, o.node_id, o.attempt, o.stage, o.probe, o.case_id,
        o.repeat, '' AS other, o.trace_row, NULL::BIGINT AS other_row, o.truth_row, NULL::BIGINT AS first
    FROM staging.observations AS o
    WHERE o.outcome = 'numeric'
    UNION ALL
    SELECT
        'instrument', b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id,
        b.repeat, 'first', b.trace_row, a.trace_row, NULL, NULL
    FROM repeats AS a
    INNER JOIN repeats AS b USING (run_id, cell_id, node_id, attempt, case_id)
    WHERE a.probe = 'first' AND b.probe <> 'first' AND a.payload_digest IS DISTINCT FROM b.payload_digest
    UNION ALL
    SELECT
        'later_attempt', b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id,
        b.repeat, a.attempt::VARCHAR, b.trace_row, a.trace_row, NULL, NULL
    FROM staging.observations AS a
    INNER JOIN staging.observations AS b USING (run_id, cell_id, node_id, stage, probe, case_id, repeat)
    WHERE a.judged AND b.later AND a.stage = 'logits' AND a.outcome = 'numeric' AND b.outcome = 'numeric'
        AND a.payload_digest IS DISTINCT FROM b.payload_digest
    UNION ALL
    SELECT
        'between_nodes', b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id,
        b.repeat, a.node_id, b.trace_row, a.trace_row, NULL, NULL
    FROM staging.observations AS a
    INNER JOIN staging.observations AS b USING (run_id, cell_id, stage, probe, case_id, repeat)
    WHERE a.judged AND b.judged AND a.node_id < b.node_id AND a.stage = 'logits'
        AND a.outcome = 'numeric' AND b.outcome = 'numeric'
        AND a.payload_digest IS DISTINCT FROM b.payload_digest
    UNION ALL
    SELECT
        'state', run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat, 'alone', trace_row,
        alone_row, NULL, first
    FROM scenes
)

SELECT
    c.* EXCLUDE (truth_row, first),
    coalesce(
        r.ref_topk_logprobs,
        CASE
            WHEN c.first IS NULL THEN f.ref_topk_logprobs
            ELSE f.ref_topk_logprobs[c.first:c.first + len(t.tail_logprob) - 1]
        END
    ) AS p_topk,
    coalesce(
        r.tail_logprob,
        CASE WHEN c.first IS NULL THEN f.tail_logprob ELSE f.tail_logprob[c.first:c.first + len(t.tail_logprob) - 1] END
    ) AS p_tail,
    coalesce(
        r.top_ids,
        CASE WHEN c.first IS NULL THEN f.top_ids ELSE f.top_ids[c.first:c.first + len(t.tail_logprob) - 1] END
    ) AS p_ids,
    -- The positions that a long sequence keeps, as its truth says; null for all.
    TRY_CAST(TRY_CAST(coalesce(r.value, t.value) AS JSON) -> '$.positions' AS BIGINT[]) AS kept,
    t.ref_topk_logprobs AS q_topk,
    t.tail_logprob AS q_tail,
    t.top_ids AS q_ids
FROM chosen AS c
INNER JOIN traces AS t ON c.trace_row = t.rowid
LEFT JOIN traces AS f ON c.other_row = f.rowid
LEFT JOIN sources.reference_traces AS r ON c.truth_row = r.rowid
