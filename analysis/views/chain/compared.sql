-- One row is a judged probe of the chain: a case of a planned pair's attempt, whole or streamed.
--
-- The chain as the user sees it against the reference: what differs first, and whether it is a tie.
--
-- The prompt comes first: a doubled BOS is a fault of the chat path also where the answer survives it.
-- Token ids, text and finish_reason speak for the chain; a message that alone differs is the parser's.
-- Where the prompt's ids are hidden, their number tells another prompt; an equal one proves none.
-- Where a server tells thinking or calls apart, its text is the content alone, and the message speaks for it.
-- A streamed reply is held against the candidate's own whole reply. Where text, message and finish_reason
-- are the same, it says nothing that the whole one does not say; else the difference is the stream's own.
--
-- A `tie` is a difference that equal computations can make: under the same prompt both sides go on, the
-- candidate's token is among those the reference ranked there, and the reference preferred its own by no
-- more than benign configurations have flipped. How far that is, the floor says; but a floor does not
-- know the KV dtype, and llama.cpp's f16 cache over f32 weights flips more than any f32 configuration.
-- So what this very cell has flipped in `logits` counts too, but only where its logits are qualified: a
-- broken engine must not excuse its chain with its own flips. Without a floor (a server that does not tell its
-- dtype has none) a preference above `sure_lead_nats`, and above the widest flip of any floor of this function,
-- is no tie all the same.
--
-- Where the ids are hidden, nobody knows at which token the answers part, nor which one was taken instead. One
-- of the tokens up to the first other character is it, or one before whose stand-in spells the same; each spells
-- a byte at least, so there are no more of them than bytes. So the least lead that the reference's choice had
-- over its second at any of them bounds what was tied: if that is no tie, nothing there was; if it might be one,
-- there is no truth (`least_lead`). After parsing, all of its tokens count. What breaks this: tokens that spell
-- nothing before the difference, where a near tie stands behind as many more tokens as there are of those.
WITH logits_now AS (
    SELECT run_id, cell_id, node_id, verdict FROM sources.stored_verdicts WHERE stage = 'logits' AND case_group = '*'
    UNION ALL
    SELECT v.run_id, v.cell_id, v.node_id, v.verdict
    FROM verdicts.logits AS v
    INNER JOIN sources.judging USING (run_id)
    WHERE v.case_group = '*'
),

own_flips AS (
    SELECT n.run_id, n.cell_id, n.node_id, max(n.max_flip_margin) AS own_flip_margin
    FROM numeric.cases AS n
    INNER JOIN staging.tries AS t USING (run_id, cell_id, node_id, attempt)
    INNER JOIN logits_now AS v USING (run_id, cell_id, node_id)
    WHERE n.kind = 'reference' AND n.stage = 'logits' AND t.judged AND v.verdict = 'qualified'
    GROUP BY ALL
),

widest AS (
    SELECT p.run_id, p.cell_id, p.node_id, max(f.max_flip_margin) AS widest_flip
    FROM staging.pairs AS p
    INNER JOIN numeric.floor_fits AS f ON f.run_id = p.run_id AND f.function_digest = p.function_digest
    GROUP BY ALL
),

sides AS (
    SELECT
        o.*, c.hides_prompt, c.hides_output, c.prompt_tokens, c.output_tokens,
        coalesce(
            r.finish_reason = 'stop' AND (TRY_CAST(o.expected AS JSON) ->> '$.finish_reason') = 'tool_calls', false
        ) AS ends_in_calls,
        t.prompt_ids AS seen_prompt, r.prompt_ids AS true_prompt, t.output_ids AS seen_ids,
        r.output_ids AS true_ids, t.text AS seen_text, r.text AS true_text,
        t.finish_reason AS seen_finish, r.finish_reason AS raw_true_finish,
        canonical_message(t.message, r.message) AS seen_message,
        canonical_message(r.message, r.message) AS true_message,
        r.ref_topk_logprobs AS true_logprobs, r.top_ids AS true_top_ids, f.floor_id, f.max_flip_margin,
        CASE WHEN f.max_flip_margin IS NOT NULL THEN greatest(f.max_flip_margin, w.own_flip_margin) END AS tie_margin,
        greatest(k.sure_lead_nats, x.widest_flip) AS sure_lead,
        CASE WHEN ends_in_calls THEN 'tool_calls' ELSE raw_true_finish END AS true_finish,
        coalesce(
            (seen_message ->> '$.content') = seen_text AND true_message IS NOT NULL
            AND ((seen_message ->> '$.reasoning_content') <> '' OR json_array_length(seen_message, '$.tool_calls') > 0),
            false
        ) AS text_is_content,
        list_min(list_filter(
            range(1, greatest(len(t.output_ids), len(r.output_ids)) + 1),
            lambda i: t.output_ids[i] IS DISTINCT FROM r.output_ids[i]
        )) AS differs_at
    FROM staging.observations AS o
    INNER JOIN traces AS t ON o.trace_row = t.rowid
    INNER JOIN sources.reference_traces AS r ON o.truth_row = r.rowid
    CROSS JOIN sources.rules AS k
    LEFT JOIN staging.token_counts AS c ON c.trace_row = o.trace_row
    LEFT JOIN widest AS x
        ON x.run_id = o.run_id AND x.cell_id = o.cell_id AND x.node_id = o.node_id
    LEFT JOIN numeric.pair_floors AS f
        ON f.run_id = o.run_id AND f.cell_id = o.cell_id AND f.node_id = o.node_id
    LEFT JOIN own_flips AS w
        ON w.run_id = o.run_id AND w.cell_id = o.cell_id AND w.node_id = o.node_id
    WHERE o.stage = 'chain' AND o.outcome IN ('match', 'mismatch')
),

named AS (
    SELECT
        *,
        CASE
            WHEN len(seen_prompt) > 0 AND len(true_prompt) > 0 AND seen_prompt <> true_prompt THEN 'prompt'
            WHEN hides_prompt AND len(true_prompt) > 0 AND prompt_tokens <> len(true_prompt) THEN 'prompt_tokens'
            WHEN NOT hides_output AND differs_at IS NOT NULL THEN 'output_ids'
            WHEN NOT hides_output AND seen_text IS DISTINCT FROM true_text AND NOT text_is_content THEN 'text'
            WHEN hides_output AND CASE
                WHEN true_message IS NULL THEN seen_text <> true_text
                ELSE seen_message IS DISTINCT FROM true_message
            END
                THEN answer_symptom(
                    coalesce(seen_text, ''),
                    coalesce(seen_message, ''),
                    coalesce(true_text, ''),
                    coalesce(true_message, '')
                )
            WHEN seen_finish IS DISTINCT FROM true_finish THEN 'finish_reason'
            WHEN seen_message IS DISTINCT FROM true_message THEN 'message'
            WHEN hides_output AND abs(output_tokens - len(true_ids)) > 1 THEN 'output_tokens'
        END AS symptom,
        CASE
            WHEN seen_ids[differs_at] IS NOT NULL AND true_ids[differs_at] IS NOT NULL
                THEN true_logprobs[differs_at][1]
                    - true_logprobs[differs_at][list_position(true_top_ids[differs_at], seen_ids[differs_at])]
        END AS margin_there,
        CASE
            WHEN coalesce(
                    (true_message ->> '$.content') = true_text AND (seen_message ->> '$.content') = seen_text
                    AND (seen_message ->> '$.reasoning_content') = ''
                    AND json_array_length(seen_message, '$.tool_calls') = 0,
                    true_message IS NULL
                )
                THEN least(len(true_ids), shared_bytes(seen_text, true_text) + 1)
            ELSE len(true_ids)
        END AS within,
        list_min(list_transform(true_logprobs[:within], lambda x: x[1] - x[2])) AS least_lead,
        coalesce(tie_margin, sure_lead) AS benign_lead
    FROM sides
    WHERE probe = 'whole'
),

wholes AS (
    SELECT
        observation_id, run_id, cell_id, node_id, attempt, stage, probe, case_id, repeat, symptom, differs_at,
        margin_there, tie_margin, floor_id, seen_text, true_finish, seen_finish, true_message, seen_message,
        least_lead, benign_lead,
        coalesce(hides_output, false) AS ids_hidden,
        NOT coalesce(len(seen_prompt) > 0 AND len(true_prompt) > 0, false) AS prompt_hidden,
        list_filter(
            [
                CASE WHEN prompt_hidden THEN 'prompt' END, CASE WHEN ids_hidden THEN 'ids' END,
                CASE WHEN ids_hidden AND seen_text IS DISTINCT FROM true_text THEN 'spelling' END,
                CASE WHEN prompt_hidden AND prompt_tokens IS NULL THEN 'prompt_tokens' END
            ],
            lambda x: x IS NOT NULL
        ) AS hides,
        -- Both go on where they part; else one of them ends there.
        NOT coalesce(
            symptom = 'output_ids' AND (seen_ids[differs_at] IS NULL OR true_ids[differs_at] IS NULL), false
        ) AS goes_on,
        CASE
            WHEN symptom IS NULL THEN 'match'
            WHEN symptom IN ('answer', 'text', 'form', 'output_tokens') AND ids_hidden
                THEN CASE WHEN least_lead > benign_lead THEN 'mismatch' ELSE 'no_truth' END
            WHEN symptom <> 'output_ids' OR margin_there IS NULL THEN 'mismatch'
            WHEN tie_margin IS NULL THEN CASE WHEN margin_there > sure_lead THEN 'mismatch' ELSE 'no_truth' END
            WHEN margin_there <= tie_margin THEN 'tie'
            ELSE 'mismatch'
        END AS outcome,
        CASE
            WHEN symptom = 'prompt' THEN wording.prompt_ids_differ(true_prompt, seen_prompt, differs_at)
            WHEN symptom = 'prompt_tokens'
                THEN wording.prompt_count_differs(prompt_tokens, len(true_prompt), seen_text = true_text)
            WHEN symptom = 'output_ids'
                THEN wording.token_differs(differs_at, true_ids[differs_at], seen_ids[differs_at])
                    || wording.preference(margin_there, tie_margin, sure_lead, max_flip_margin, NOT goes_on)
            WHEN ids_hidden AND symptom IN ('answer', 'text', 'form', 'output_tokens')
                THEN CASE symptom
                    WHEN 'answer' THEN wording.words_differ(true_text, seen_text)
                    WHEN 'text' THEN wording.length_differs(true_text, seen_text)
                    WHEN 'form'
                        THEN wording.form_differs(coalesce(true_message, true_text), coalesce(seen_message, seen_text))
                    ELSE wording.count_differs(output_tokens, len(true_ids))
                END || wording.tie_or_not(least_lead, benign_lead)
            WHEN symptom = 'text' THEN wording.text_differs(true_text, seen_text)
            WHEN symptom = 'finish_reason' THEN wording.finish_differs(true_finish, seen_finish)
            WHEN symptom = 'message' THEN wording.message_differs(true_message, seen_message)
        END AS detail
    FROM named
),

streams AS (
    SELECT
        s.observation_id, s.run_id, s.cell_id, s.node_id, s.attempt, s.stage, s.probe, s.case_id, s.repeat,
        coalesce(s.seen_text = w.seen_text AND s.seen_message <> w.seen_message, false) AS other_message,
        coalesce(s.seen_text = w.seen_text AND s.seen_finish <> w.seen_finish, false) AS other_finish,
        CASE
            WHEN other_message THEN 'message'
            WHEN other_finish THEN 'finish_reason'
            WHEN s.seen_text = s.true_text THEN NULL
            WHEN s.seen_text = w.seen_text THEN w.symptom
            WHEN w.outcome IS NOT NULL THEN 'stream'
        END AS symptom,
        w.differs_at, w.tie_margin, s.floor_id,
        w.true_finish, w.true_message, w.seen_message, w.hides, w.goes_on,
        -- A second asking may fall on the other side of a tie, which hidden ids do not tell from a loss.
        w.ids_hidden AND NOT coalesce(w.least_lead > w.benign_lead, false)
        AND (other_message OR NOT starts_with(s.seen_text, w.seen_text) AND NOT starts_with(w.seen_text, s.seen_text))
            AS maybe_tie,
        CASE
            WHEN other_message OR other_finish THEN CASE WHEN maybe_tie THEN 'no_truth' ELSE 'mismatch' END
            WHEN s.seen_text = s.true_text THEN 'match'
            WHEN s.seen_text = w.seen_text THEN w.outcome
            WHEN w.outcome IS NULL OR maybe_tie THEN 'no_truth'
            ELSE 'mismatch'
        END AS outcome,
        CASE
            WHEN other_message THEN wording.stream_message_differs(w.seen_message, s.seen_message, maybe_tie)
            WHEN other_finish THEN wording.stream_finish_differs(w.seen_finish, s.seen_finish)
            WHEN s.seen_text = s.true_text THEN NULL
            WHEN s.seen_text = w.seen_text THEN w.detail
            WHEN w.outcome IS NULL THEN wording.stream_text_unknown()
            ELSE wording.stream_text_differs(w.seen_text, s.seen_text, maybe_tie)
        END AS detail
    FROM sides AS s
    LEFT JOIN wholes AS w USING (run_id, cell_id, node_id, attempt, stage, case_id, repeat)
    WHERE s.probe = 'stream'
)

SELECT * EXCLUDE (seen_text, seen_finish, least_lead, benign_lead, margin_there, ids_hidden, prompt_hidden) FROM wholes
UNION ALL BY NAME
SELECT * EXCLUDE (other_message, other_finish, maybe_tie) FROM streams
