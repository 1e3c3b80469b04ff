-- materialised: no (holds the full lists; read once, by `positions`)
-- Every two distributions that are compared: p is the truth, q the candidate, over p's top-k ids and
-- the tail outside them. Equal payload digests are bitwise equal and are not compared again.
WITH repeats AS (
    SELECT t.*, t.rowid AS trace_row
    FROM traces AS t
    INNER JOIN tries AS a USING (run_id, cell_id, node_id, attempt)
    WHERE t.stage = 'instrument' AND a.judged AND t.ref_topk_logprobs IS NOT NULL
),

chosen AS (
    SELECT
        'reference' AS kind, o.run_id, o.cell_id, o.node_id, o.attempt, o.stage, o.probe, o.case_id,
        o.repeat, '' AS other, o.trace_row, NULL::BIGINT AS other_row, o.truth_row
    FROM observations AS o
    WHERE o.outcome = 'numeric'
    UNION ALL
    SELECT
        'instrument', b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id,
        b.repeat, 'first', b.trace_row, a.trace_row, NULL
    FROM repeats AS a
    INNER JOIN repeats AS b USING (run_id, cell_id, node_id, attempt, case_id)
    WHERE a.probe = 'first' AND b.probe <> 'first' AND a.payload_digest IS DISTINCT FROM b.payload_digest
    UNION ALL
    SELECT
        'later_attempt', b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id,
        b.repeat, a.attempt::VARCHAR, b.trace_row, a.trace_row, NULL
    FROM observations AS a
    INNER JOIN observations AS b USING (run_id, cell_id, node_id, stage, probe, case_id, repeat)
    WHERE a.judged AND b.later AND a.stage = 'logits' AND a.outcome = 'numeric' AND b.outcome = 'numeric'
        AND a.payload_digest IS DISTINCT FROM b.payload_digest
    UNION ALL
    SELECT
        'between_nodes', b.run_id, b.cell_id, b.node_id, b.attempt, b.stage, b.probe, b.case_id,
        b.repeat, a.node_id, b.trace_row, a.trace_row, NULL
    FROM observations AS a
    INNER JOIN observations AS b USING (run_id, cell_id, stage, probe, case_id, repeat)
    WHERE a.judged AND b.judged AND a.node_id < b.node_id AND a.stage = 'logits'
        AND a.outcome = 'numeric' AND b.outcome = 'numeric'
        AND a.payload_digest IS DISTINCT FROM b.payload_digest
)

SELECT
    c.* EXCLUDE (trace_row, other_row, truth_row),
    coalesce(r.ref_topk_logprobs, f.ref_topk_logprobs) AS p_topk,
    coalesce(r.tail_logprob, f.tail_logprob) AS p_tail,
    coalesce(r.top_ids, f.top_ids) AS p_ids,
    t.ref_topk_logprobs AS q_topk,
    t.tail_logprob AS q_tail,
    t.top_ids AS q_ids
FROM chosen AS c
INNER JOIN traces AS t ON c.trace_row = t.rowid
LEFT JOIN traces AS f ON c.other_row = f.rowid
LEFT JOIN reference_traces AS r ON c.truth_row = r.rowid
