-- One row is a planned probe of a case in an attempt, with its trace and its truth.
--
-- Planned probe, trace and truth side by side, as texts that are equal exactly when they agree.
--
-- Golden text outranks the reference. Every planned probe of a judged attempt has a row, also when
-- nothing came back; of other attempts only what they brought. `state` and `sampling` have no truth but
-- the engine itself: they have relations of their own. A streamed chain has the same truth as a
-- whole one: what users read must not depend on how it arrives.
--
-- Where the chain's ids are hidden, their numbers are compared, as far as they are told. Whether the token
-- that ends an answer counts differs between servers, so one more or less says nothing. Its text is then the
-- message's content, so the message speaks for it. Calls that end an answer end it with `tool_calls` by the
-- API; an engine that has no API says `stop`, which is the same.
WITH stars AS (
    SELECT run_id, cell_id, node_id, attempt, stage, observed, error
    FROM traces
    WHERE case_id = '*' AND observed IN ('hidden', 'absent', 'not_probed')
),

joined AS (
    SELECT
        n.*, a.attempt, a.judged, a.later, t.rowid AS trace_row, u.truth_row,
        t.observed AS seen_how, t.repeat, t.payload_digest, t.error AS trace_error,
        s.observed AS stage_observed, s.error AS stage_error, u.reference_id AS frozen_id,
        t.case_digest IS DISTINCT FROM n.case_digest AS other_case,
        -- An engine refuses a conversation with the template's own words; any other error is an error.
        coalesce(
            n.stage = 'template' AND n.golden_applies AND n.golden_prompt_text IS NULL
            AND contains(t.error, n.golden_refusal), false
        ) AS refused,
        CASE n.stage
            WHEN 'template'
                THEN CASE
                    WHEN n.golden_applies THEN coalesce(n.golden_prompt_text, 'refused: ' || n.golden_refusal)
                END
            WHEN 'tokenize' THEN CASE WHEN n.golden_applies THEN to_json(n.golden_prompt_ids)::VARCHAR END
            WHEN 'detokenize' THEN CASE WHEN n.golden_applies THEN n.golden_text END
            WHEN 'stop' THEN
                CASE
                    WHEN n.golden_applies AND coalesce(n.golden_text, n.golden_finish_reason) IS NOT NULL
                        THEN json_object('text', n.golden_text, 'finish_reason', n.golden_finish_reason)::VARCHAR
                END
            WHEN 'parse' THEN
                CASE
                    WHEN n.golden_applies AND n.golden_message IS NOT NULL
                        THEN json_object(
                            'message', canonical_message(n.golden_message, n.golden_message)::JSON,
                            'finish_reason', n.golden_finish_reason
                        )::VARCHAR
                END
        END AS golden
    FROM staging.planned_probes AS n
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id)
    LEFT JOIN traces AS t
        ON n.run_id = t.run_id AND n.cell_id = t.cell_id AND n.node_id = t.node_id
        AND a.attempt = t.attempt AND n.stage = t.stage AND n.case_id = t.case_id
        -- Probe `*` is a case that failed before its probes could be told apart.
        AND (n.probe = t.probe OR t.probe = '*' AND t.error IS NOT NULL)
    LEFT JOIN stars AS s
        ON n.run_id = s.run_id AND n.cell_id = s.cell_id AND n.node_id = s.node_id
        AND a.attempt = s.attempt AND n.stage = s.stage
    LEFT JOIN staging.truths AS u
        ON n.run_id = u.run_id AND n.case_digest = u.case_digest AND n.stage = u.stage
        AND u.probe = CASE WHEN n.stage = 'chain' THEN 'whole' ELSE n.probe END
        AND n.function_digest = u.function_digest
        AND n.tokenizer_digest = u.tokenizer_digest
    WHERE n.stage NOT IN ('state', 'sampling') AND (a.judged OR t.case_id IS NOT NULL)
    QUALIFY rank() OVER (
        PARTITION BY n.run_id, n.cell_id, n.node_id, a.attempt, n.stage, n.probe, n.case_id
        ORDER BY t.probe IS NOT DISTINCT FROM '*'
    ) = 1
),

sides AS (
    SELECT
        j.*,
        -- Ids that one side does not show (empty or null) cannot differ.
        j.stage = 'chain' AND len(t.prompt_ids) > 0 AND coalesce(len(r.prompt_ids) > 0, true)
        AND t.prompt_ids IS DISTINCT FROM r.prompt_ids AS other_prompt,
        coalesce(
            c.hides_prompt AND len(r.prompt_ids) > 0 AND c.prompt_tokens <> len(r.prompt_ids), false
        ) AS other_count,
        coalesce(c.hides_output, false) AS hides_output, c.prompt_tokens, c.output_tokens,
        coalesce(c.hides_output AND abs(c.output_tokens - len(r.output_ids)) > 1, false) AS other_length,
        coalesce(
            r.finish_reason = 'stop' AND t.finish_reason = 'tool_calls'
            AND json_array_length(TRY_CAST(r.message AS JSON), '$.tool_calls') > 0
            AND json_array_length(TRY_CAST(t.message AS JSON), '$.tool_calls') > 0, false
        ) AS ends_in_calls,
        w.message AS whole_message, w.finish_reason AS whole_finish,
        -- What clients put together of a stream's pieces is to be what comes at once.
        coalesce(
            w.text = t.text AND (
                canonical_message(w.message, w.message) <> canonical_message(t.message, w.message)
                OR w.finish_reason <> t.finish_reason
            ), false
        ) AS other_stream
    FROM joined AS j
    LEFT JOIN staging.token_counts AS c ON j.trace_row = c.trace_row
    LEFT JOIN traces AS t ON j.trace_row = t.rowid
    LEFT JOIN traces AS w
        ON t.stage = 'chain' AND t.probe = 'stream' AND w.stage = 'chain' AND w.probe = 'whole'
        AND w.run_id = t.run_id AND w.cell_id = t.cell_id AND w.node_id = t.node_id AND w.attempt = t.attempt
        AND w.case_id = t.case_id AND w.repeat = t.repeat
    LEFT JOIN sources.reference_traces AS r ON j.truth_row = r.rowid
),

texts AS (
    SELECT
        j.*,
        CASE WHEN j.golden IS NOT NULL THEN 'golden' WHEN j.truth_row IS NOT NULL THEN 'reference' END AS truth,
        CASE WHEN j.golden IS NULL THEN j.frozen_id END AS reference_id,
        coalesce(j.golden, CASE j.stage
            WHEN 'template' THEN r.prompt_text
            WHEN 'tokenize' THEN to_json(r.prompt_ids)::VARCHAR
            WHEN 'detokenize' THEN r.text
            WHEN 'stop'
                THEN CASE
                    WHEN r.case_id IS NOT NULL
                        THEN json_object('text', r.text, 'finish_reason', r.finish_reason)::VARCHAR
                END
            WHEN 'parse' THEN
                CASE
                    WHEN r.message IS NOT NULL
                        THEN json_object(
                            'message', canonical_message(r.message, r.message)::JSON, 'finish_reason', r.finish_reason
                        )::VARCHAR
                END
            WHEN 'chain' THEN
                CASE
                    WHEN j.other_stream
                        THEN json_object(
                            'text', r.text, 'finish_reason', j.whole_finish,
                            'message', canonical_message(j.whole_message, j.whole_message)::JSON
                        )::VARCHAR
                    WHEN j.probe = 'stream' THEN r.text
                    WHEN r.output_ids IS NOT NULL
                        THEN json_object(
                            'prompt_ids', CASE WHEN j.other_prompt THEN r.prompt_ids END,
                            'prompt_tokens', CASE WHEN j.other_count THEN len(r.prompt_ids) END,
                            'output_ids', CASE WHEN NOT j.hides_output THEN r.output_ids END,
                            'output_tokens', CASE WHEN j.other_length THEN len(r.output_ids) END,
                            'text', CASE WHEN NOT j.hides_output OR r.message IS NULL THEN r.text END,
                            'finish_reason', CASE WHEN j.ends_in_calls THEN 'tool_calls' ELSE r.finish_reason END,
                            'message', canonical_message(r.message, r.message)::JSON
                        )::VARCHAR
                END
        END) AS expected,
        CASE j.stage
            WHEN 'template' THEN CASE WHEN j.refused THEN j.golden ELSE t.prompt_text END
            WHEN 'tokenize' THEN to_json(t.prompt_ids)::VARCHAR
            WHEN 'detokenize' THEN t.text
            -- Only what the truth speaks of is compared: an aspect it leaves open is null on both sides.
            WHEN 'stop' THEN
                CASE
                    WHEN t.text IS NOT NULL
                        THEN json_object(
                            'text', CASE WHEN j.golden IS NULL OR j.golden_text IS NOT NULL THEN t.text END,
                            'finish_reason',
                            CASE WHEN j.golden IS NULL OR j.golden_finish_reason IS NOT NULL THEN t.finish_reason END
                        )::VARCHAR
                END
            WHEN 'parse' THEN
                CASE
                    WHEN t.message IS NOT NULL
                        THEN json_object(
                            'message', canonical_message(
                                t.message,
                                coalesce(CASE WHEN j.golden IS NOT NULL THEN j.golden_message END, r.message, t.message)
                            )::JSON,
                            'finish_reason',
                            CASE WHEN j.golden IS NULL OR j.golden_finish_reason IS NOT NULL THEN t.finish_reason END
                        )::VARCHAR
                END
            WHEN 'chain' THEN
                CASE
                    WHEN j.other_stream
                        THEN json_object(
                            'text', t.text, 'finish_reason', t.finish_reason,
                            'message', canonical_message(t.message, j.whole_message)::JSON
                        )::VARCHAR
                    WHEN j.probe = 'stream' THEN t.text
                    WHEN t.output_ids IS NOT NULL OR j.hides_output AND t.text IS NOT NULL
                        THEN json_object(
                            'prompt_ids', CASE WHEN j.other_prompt THEN t.prompt_ids END,
                            'prompt_tokens', CASE WHEN j.other_count THEN j.prompt_tokens END,
                            'output_ids', t.output_ids,
                            'output_tokens', CASE WHEN j.other_length THEN j.output_tokens END,
                            'text', CASE WHEN NOT j.hides_output OR r.message IS NULL THEN t.text END,
                            'finish_reason', t.finish_reason,
                            'message',
                            CASE
                                WHEN r.case_id IS NULL OR r.message IS NOT NULL
                                    THEN canonical_message(t.message, coalesce(r.message, t.message))::JSON
                            END
                        )::VARCHAR
                END
        END AS seen,
        CASE
            WHEN j.stage <> 'logits' OR r.case_id IS NULL THEN NULL
            WHEN t.ref_topk_logprobs IS NULL OR t.tail_logprob IS NULL THEN 'the probe returned no log-probabilities'
            WHEN t.prompt_ids IS DISTINCT FROM r.prompt_ids
                THEN 'it was forced on other tokens than the reference''s ids'
            WHEN len(t.ref_topk_logprobs) <> len(r.ref_topk_logprobs)
                OR len(t.tail_logprob) <> len(r.tail_logprob)
                THEN format(
                    'it has {} positions, the reference has {}', len(t.ref_topk_logprobs), len(r.ref_topk_logprobs)
                )
            WHEN len(t.ref_topk_logprobs[1]) <> len(r.ref_topk_logprobs[1])
                THEN format(
                    'it has {} log-probabilities a position, the reference has {}',
                    len(t.ref_topk_logprobs[1]),
                    len(r.ref_topk_logprobs[1])
                )
        END AS numeric_defect
    FROM sides AS j
    LEFT JOIN traces AS t ON j.trace_row = t.rowid
    LEFT JOIN sources.reference_traces AS r ON j.truth_row = r.rowid
)

SELECT
    row_number() OVER () AS observation_id,
    run_id, cell_id, node_id, attempt, judged, later, stage, probe, case_id, case_digest, tags,
    coalesce(seen_how, stage_observed) AS observed, coalesce(repeat, 0) AS repeat,
    truth, reference_id, expected, seen, payload_digest, trace_row, truth_row,
    CASE
        WHEN trace_row IS NULL AND stage_observed IS NOT NULL THEN 'not_observed'
        WHEN trace_row IS NULL THEN 'missing'
        WHEN seen_how NOT IN ('path', 'endpoint', 'reenacted') THEN 'not_observed'
        WHEN other_case OR trace_error IS NOT NULL AND NOT refused THEN 'error'
        WHEN stage = 'logits' THEN
            CASE
                WHEN truth_row IS NULL THEN 'no_truth'
                WHEN numeric_defect IS NOT NULL THEN 'error'
                ELSE 'numeric'
            END
        WHEN seen IS NULL THEN 'error'
        WHEN expected IS NULL THEN 'no_truth'
        WHEN expected = seen THEN 'match'
        ELSE 'mismatch'
    END AS outcome,
    CASE
        WHEN trace_row IS NULL AND stage_observed IS NOT NULL THEN stage_observed || coalesce(': ' || stage_error, '')
        WHEN trace_row IS NULL THEN 'the attempt recorded nothing of it'
        WHEN trace_error IS NOT NULL AND NOT refused THEN trace_error
        WHEN other_case THEN 'the trace belongs to another version of this case'
        WHEN numeric_defect IS NOT NULL THEN numeric_defect
        WHEN stage <> 'logits' AND seen IS NULL THEN 'the probe returned nothing'
        WHEN stage NOT IN ('logits', 'chain') THEN shown_difference(expected, seen)
    END AS detail
FROM texts
