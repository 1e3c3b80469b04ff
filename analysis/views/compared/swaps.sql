-- One row is a swapped part of the chain in an attempt and a case, with what it changed.
--
-- The chain with one part exchanged, beside the whole one: does the exchange cure the answer, or bring
-- the symptom to the reference?
--
-- These probes are asked only where `whole` differs, so none of them is planned, and no verdict on the
-- chain reads them. `cures` and `persists` speak of a cure, `infects` of an infection; all are null
-- where the exchange failed or there is nothing to compare it with.
--
-- A cured answer equals the truth as far as the truth speaks, a tie included; where the symptom is another
-- prompt, the prompt must be healed too. An infected one shows the symptom itself: it leaves the truth at
-- the candidate's token, not necessarily with all that follows. Who ends early must also say why alike: any
-- engine ends where a script ends.
WITH asked AS (
    SELECT t.run_id, t.cell_id, t.node_id, t.attempt, t.case_id, t.repeat, t.probe AS swap, t.error, t.rowid AS swap_row
    FROM traces AS t
    WHERE t.stage = 'chain' AND (starts_with(t.probe, 'cure/') OR starts_with(t.probe, 'infect/'))
    QUALIFY row_number() OVER (
        PARTITION BY t.run_id, t.cell_id, t.node_id, t.attempt, t.case_id, t.repeat, t.probe
        ORDER BY t.error IS NOT NULL, t.rowid
    ) = 1
),

sides AS (
    SELECT
        a.*, k.direction, k.part, k.words, c.symptom, c.outcome, c.differs_at, c.tie_margin,
        c.seen_message AS ill_message, w.prompt_ids AS ill_prompt, w.output_ids AS ill_ids, w.text AS ill_text,
        w.finish_reason AS ill_finish, s.prompt_ids, s.output_ids, s.text, s.finish_reason,
        canonical_message(s.message, r.message) AS message, c.true_message,
        r.prompt_ids AS true_prompt, r.output_ids AS true_ids, r.text AS true_text,
        r.finish_reason AS true_finish, r.ref_topk_logprobs AS true_logprobs, r.top_ids AS true_top_ids,
        list_min(list_filter(
            range(1, greatest(len(s.output_ids), len(r.output_ids)) + 1),
            lambda i: s.output_ids[i] IS DISTINCT FROM r.output_ids[i]
        )) AS parts_at
    FROM asked AS a
    INNER JOIN sources.swap_kinds AS k ON a.swap = k.swap
    INNER JOIN traces AS s ON a.swap_row = s.rowid
    LEFT JOIN chain.compared AS c
        ON c.run_id = a.run_id AND c.cell_id = a.cell_id AND c.node_id = a.node_id AND c.attempt = a.attempt
        AND c.case_id = a.case_id AND c.repeat = a.repeat AND c.probe = 'whole'
    LEFT JOIN staging.observations AS o
        ON o.run_id = a.run_id AND o.cell_id = a.cell_id AND o.node_id = a.node_id AND o.attempt = a.attempt
        AND o.case_id = a.case_id AND o.repeat = a.repeat AND o.stage = 'chain' AND o.probe = 'whole'
    LEFT JOIN traces AS w ON o.trace_row = w.rowid
    LEFT JOIN sources.reference_traces AS r ON o.truth_row = r.rowid
),

compared AS (
    SELECT
        *,
        error IS NULL AND output_ids IS NOT NULL AND symptom IS NOT NULL AS answered,
        coalesce(len(prompt_ids) > 0 AND len(true_prompt) > 0 AND prompt_ids <> true_prompt, false) AS other_prompt,
        parts_at IS NOT NULL AND NOT coalesce(
            true_logprobs[parts_at][1]
            - true_logprobs[parts_at][list_position(true_top_ids[parts_at], output_ids[parts_at])] <= tie_margin,
            false
        ) AS other_ids,
        true_text IS NOT NULL AND text IS DISTINCT FROM true_text AS other_text,
        true_finish IS NOT NULL AND finish_reason IS DISTINCT FROM true_finish AS other_finish,
        true_message IS NOT NULL AND message IS DISTINCT FROM true_message AS other_message,
        output_ids[:differs_at] IS NOT DISTINCT FROM ill_ids[:differs_at]
        AND (ill_ids[differs_at] IS NOT NULL OR finish_reason IS NOT DISTINCT FROM ill_finish) AS same_ids
    FROM sides
),

effects AS (
    SELECT
        *,
        CASE
            WHEN answered AND direction = 'cure'
                THEN NOT other_ids AND (symptom <> 'prompt' OR NOT other_prompt)
                    -- After a tie all else differs of itself.
                    AND (parts_at IS NOT NULL OR NOT (other_text OR other_finish OR other_message))
        END AS cures,
        CASE
            WHEN answered AND direction = 'infect'
                THEN CASE symptom
                    WHEN 'prompt' THEN coalesce(prompt_ids = ill_prompt, false) AND (differs_at IS NULL OR same_ids)
                    WHEN 'output_ids' THEN same_ids
                    WHEN 'text' THEN text IS NOT DISTINCT FROM ill_text
                    WHEN 'finish_reason' THEN finish_reason IS NOT DISTINCT FROM ill_finish
                    WHEN 'message' THEN message IS NOT DISTINCT FROM ill_message
                END
        END AS infects,
        CASE
            WHEN answered AND direction = 'cure'
                THEN CASE symptom
                    WHEN 'prompt' THEN other_prompt
                    WHEN 'output_ids' THEN other_ids OR parts_at IS NULL AND other_finish
                    WHEN 'text' THEN other_text
                    WHEN 'finish_reason' THEN other_finish
                    WHEN 'message' THEN other_message
                END
        END AS persists
    FROM compared
)

SELECT
    run_id, cell_id, node_id, attempt, case_id, repeat, swap, direction, part, symptom, outcome, cures,
    infects, persists, error,
    words || CASE
        WHEN error IS NOT NULL THEN ' it failed: ' || error
        WHEN cures THEN ' the answer is right'
        WHEN direction = 'cure' AND answered THEN ' the symptom stays'
        WHEN infects THEN ' shows the symptom'
        WHEN answered THEN ' does not show the symptom'
        ELSE ' recorded nothing'
    END AS says
FROM effects
