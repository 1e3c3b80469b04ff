-- The chain as the user sees it against the reference: what differs first, and whether it is a tie.
--
-- Token ids, text and finish_reason speak for the chain; a message that alone differs is the parser's.
-- Where ids part ways under the same prompt, the difference is a `tie` if the reference itself was
-- undecided there by no more than benign configurations have flipped (the floor's largest margin).
WITH sides AS (
    SELECT
        o.*, t.prompt_ids AS seen_prompt, r.prompt_ids AS true_prompt, t.output_ids AS seen_ids,
        r.output_ids AS true_ids, t.text AS seen_text, r.text AS true_text,
        t.finish_reason AS seen_finish, r.finish_reason AS true_finish,
        canonical_message(t.message, r.message) AS seen_message,
        canonical_message(r.message, r.message) AS true_message,
        r.ref_topk_logprobs AS true_logprobs, f.max_flip_margin, f.floor_id,
        list_min(list_filter(
            range(1, greatest(len(t.output_ids), len(r.output_ids)) + 1),
            lambda i: t.output_ids[i] IS DISTINCT FROM r.output_ids[i]
        )) AS differs_at
    FROM observations AS o
    INNER JOIN traces AS t ON o.trace_row = t.rowid
    INNER JOIN reference_traces AS r ON o.truth_row = r.rowid
    LEFT JOIN pair_floors AS f
        ON f.run_id = o.run_id AND f.cell_id = o.cell_id AND f.node_id = o.node_id
    WHERE o.stage = 'chain' AND o.outcome IN ('match', 'mismatch')
),

named AS (
    SELECT
        *,
        CASE
            WHEN differs_at IS NOT NULL AND seen_prompt IS DISTINCT FROM true_prompt THEN 'prompt'
            WHEN differs_at IS NOT NULL THEN 'output_ids'
            WHEN seen_text IS DISTINCT FROM true_text THEN 'text'
            WHEN seen_finish IS DISTINCT FROM true_finish THEN 'finish_reason'
            WHEN seen_message IS DISTINCT FROM true_message THEN 'message'
        END AS symptom,
        true_logprobs[differs_at][1] - true_logprobs[differs_at][2] AS margin_there
    FROM sides
)

SELECT
    run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat, symptom, differs_at, margin_there,
    floor_id,
    CASE
        WHEN symptom IS NULL THEN 'match'
        WHEN symptom <> 'output_ids' OR margin_there IS NULL THEN 'mismatch'
        WHEN max_flip_margin IS NULL THEN 'no_truth'
        WHEN margin_there <= max_flip_margin THEN 'tie'
        ELSE 'mismatch'
    END AS outcome,
    CASE
        WHEN symptom = 'prompt'
            THEN format('the prompt''s ids differ, and the answer from its token {} on', differs_at)
        WHEN symptom = 'output_ids'
            THEN format('at output token {}: expected {}, seen {}', differs_at, coalesce(true_ids[differs_at]::VARCHAR, 'the end'), coalesce(seen_ids[differs_at]::VARCHAR, 'the end'))
                || CASE
                    WHEN margin_there IS NULL THEN ''
                    WHEN max_flip_margin IS NULL THEN format('; the reference''s margin there is {:.2g} nats, and without a floor a tie cannot be told from a symptom', margin_there)
                    ELSE format('; the reference''s margin there is {:.2g} nats, benign flips reach {:.2g}', margin_there, max_flip_margin)
                END
        WHEN symptom = 'text' THEN 'same tokens, other text: ' || shown_difference(coalesce(true_text, ''), coalesce(seen_text, ''))
        WHEN symptom = 'finish_reason' THEN format('same answer, but finish_reason is {}, expected {}', coalesce(seen_finish, 'none'), coalesce(true_finish, 'none'))
        WHEN symptom = 'message' THEN 'same text, other message: ' || coalesce(shown_difference(true_message, seen_message), 'one side has none')
    END AS detail
FROM named
