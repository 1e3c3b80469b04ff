-- One row is a probe of a `state` case in an attempt, next to the same case asked alone.
--
-- What surrounds a request must not change its answer: each trace of a `state` case against what the same
-- attempt of the same engine says to the same sequence alone and cold.
--
-- A self-comparison needs no reference and no floor. For batched, chunked, prefix and reused the rule is
-- that of the pass: equal bits, or a mean KL within the declared margin (batch shapes change the order of
-- sums, which is benign: Thinking Machines 2025, "Defeating nondeterminism"). Nothing is drawn at random,
-- so it has no error rate of its own: an engine whose rounding stays within the margin is never alarmed,
-- one that leaves it always is. Without a margin there is no truth, only equality of bits.
--
-- concurrent: the greedy answer must be the one it gives alone. The first other token is a tie where the
-- lead of either was no more than benign configurations flip (`numeric.pair_floors`), and beyond `sure_lead_nats`
-- it is none with or without a floor: nor where the answer alone is not the best of its own numbers. The text after it
-- may be another then, but never hold the canary of
-- another conversation: such a secret stands in one prompt only, so no rounding explains it.
--
-- A chat (a server that shows texts only): the text must be the one it gives alone. Another text is a fault
-- where it holds another's secret, or the whole answer of another conversation; any other may have parted at a tie,
-- which ids alone would show, and no number of the engine's own is there to bound it: so it is no truth.
--
-- Where canaries are declared, an answer that cannot be searched for them is an error. leak: one was found.
--
-- NaN as in `compared.instrument`: with broken weights it is noted here and judged there.
-- first_position: the first row of `alone` (0-based) whose KL exceeds the margin.
WITH beside AS (
    SELECT
        s.*, p.suite, t.prompt_ids, t.output_ids, t.text, t.ref_topk_logprobs AS rows, t.tail_logprob AS tails,
        t.top_ids, TRY_CAST(t.value AS JSON) AS value
    FROM staging.self_traces AS s
    INNER JOIN traces AS t ON s.trace_row = t.rowid
    INNER JOIN staging.pairs AS p ON p.run_id = s.run_id AND p.cell_id = s.cell_id AND p.node_id = s.node_id
    WHERE s.stage = 'state' AND s.gap IS NULL
),

scenarios AS (
    SELECT
        run_id, suite, case_id,
        TRY_CAST(TRY_CAST(input AS JSON) -> '$.scenario.canaries' AS VARCHAR[]) AS canaries,
        (TRY_CAST(input AS JSON) -> '$.messages')::VARCHAR AS asked,
        TRY_CAST(TRY_CAST(input AS JSON) -> '$.scenario.beside' AS VARCHAR[]) AS beside,
        coalesce(
            json_type(TRY_CAST(input AS JSON), '$.scenario.canaries'), 'NULL'
        ) NOT IN ('NULL', 'ARRAY') AS canaries_unread
    FROM cases
    WHERE stage = 'state'
    QUALIFY row_number() OVER (PARTITION BY run_id, suite, case_id ORDER BY rowid DESC) = 1
),

broken_weights AS (
    SELECT DISTINCT run_id, cell_id, node_id, attempt
    FROM compared.weights
    WHERE outcome = 'mismatch'
),

firsts AS (
    SELECT
        n.trace_row, min(n.position) FILTER (WHERE n.kl > t.margin OR n.nonfinite) AS first_above
    FROM positions AS n
    INNER JOIN staging.tries AS t USING (run_id, cell_id, node_id, attempt)
    WHERE n.kind = 'state'
    GROUP BY ALL
),

-- What stands where a count belongs and is none.
miscounts AS (
    SELECT b.trace_row, string_agg(k.name, ', ' ORDER BY k.name) AS names
    FROM beside AS b
    CROSS JOIN (VALUES ('size'), ('row'), ('cached'), ('start'), ('nonfinite')) AS k (name)
    WHERE (b.value ->> k.name) IS NOT NULL
        AND NOT coalesce(
            TRY_CAST(b.value ->> k.name AS BIGINT) BETWEEN CASE k.name WHEN 'size' THEN 1 ELSE 0 END AND 1e12::BIGINT,
            false
        )
    GROUP BY b.trace_row
),

sides AS (
    SELECT
        b.*, m.names AS miscounted,
        coalesce((b.value ->> '$.chat') = 'true', false) AS chat,
        nullif(TRY_CAST(b.value ->> '$.size' AS BIGINT), 0) AS size, TRY_CAST(b.value ->> '$.row' AS BIGINT) AS place,
        TRY_CAST(b.value ->> '$.cached' AS BIGINT) AS cached,
        CASE WHEN m.names IS NULL THEN coalesce(TRY_CAST(b.value ->> '$.start' AS BIGINT), 0) ELSE 0 END AS start,
        CASE WHEN m.names IS NULL THEN coalesce(TRY_CAST(b.value ->> '$.nonfinite' AS BIGINT), 0) ELSE 0 END
            AS own_nonfinite,
        list_concat([b.text], b.value ->> '$.others[*][1]') AS texts,
        a.trace_row IS NULL AS no_alone, a.prompt_ids AS alone_ids, a.output_ids AS alone_output,
        a.text AS alone_text, a.rows AS alone_rows, a.tails AS alone_tails, a.top_ids AS alone_top,
        w.run_id IS NOT NULL AS weights_broken, c.canaries, c.canaries_unread,
        c.asked, c.beside, f.max_flip_margin, r.tie_nats, r.sure_lead_nats, r.min_leaked_chars
    FROM beside AS b
    CROSS JOIN sources.rules AS r
    LEFT JOIN miscounts AS m ON m.trace_row = b.trace_row
    LEFT JOIN beside AS a
        ON a.run_id = b.run_id AND a.cell_id = b.cell_id AND a.node_id = b.node_id
        AND a.attempt = b.attempt AND a.case_id = b.case_id AND a.probe = 'alone'
    LEFT JOIN scenarios AS c
        ON c.run_id = b.run_id AND c.suite = b.suite AND c.case_id = b.case_id
    LEFT JOIN broken_weights AS w
        ON w.run_id = b.run_id AND w.cell_id = b.cell_id AND w.node_id = b.node_id AND w.attempt = b.attempt
    LEFT JOIN numeric.pair_floors AS f
        ON f.run_id = b.run_id AND f.cell_id = b.cell_id AND f.node_id = b.node_id
    WHERE b.probe <> 'alone'
),

-- Conversation 1 is the case's own; the others follow in order. A secret that stands in the answer alone
-- as well came from its own prompt.
answers AS (
    SELECT trace_row, canaries, alone_text, texts
    FROM sides
    WHERE probe = 'concurrent' AND len(canaries) > 1
),

leaks AS (
    SELECT
        a.trace_row,
        string_agg(
            format(
                'the answer to conversation {} holds the secret of conversation {} ("{}")', i.n, j.n, a.canaries[j.n]
            ),
            '; ' ORDER BY i.n, j.n
        ) AS says
    FROM answers AS a
    CROSS JOIN LATERAL unnest(range(1, len(a.texts) + 1)) AS i (n)
    CROSS JOIN LATERAL unnest(range(1, len(a.canaries) + 1)) AS j (n)
    WHERE i.n <> j.n AND a.canaries[j.n] <> '' AND contains(a.texts[i.n], a.canaries[j.n])
        AND NOT (i.n = 1 AND contains(coalesce(a.alone_text, ''), a.canaries[j.n]))
    GROUP BY ALL
),

-- Answers of other conversations, put to other questions, that stand in the case's own but not when alone.
swapped AS (
    SELECT
        s.trace_row,
        string_agg(format('the answer is that to conversation {}', i.n), '; ' ORDER BY i.n) AS says
    FROM sides AS s
    CROSS JOIN LATERAL unnest(range(2, len(s.texts) + 1)) AS i (n)
    WHERE s.probe = 'concurrent' AND s.chat AND len(trim(s.texts[i.n])) >= s.min_leaked_chars
        AND contains(s.text, trim(s.texts[i.n])) AND NOT contains(s.alone_text, trim(s.texts[i.n]))
        AND s.beside[i.n - 1] IS DISTINCT FROM s.asked
    GROUP BY ALL
),

generated AS (
    SELECT
        s.trace_row,
        list_min(list_filter(
            range(1, greatest(len(s.output_ids), len(s.alone_output)) + 1),
            lambda i: s.output_ids[i] IS DISTINCT FROM s.alone_output[i]
        )) AS differs_at,
        len(s.alone_ids) - len(s.alone_output) + differs_at - 1 AS predicted_by,
        CASE
            WHEN s.output_ids[differs_at] IS NOT NULL AND s.alone_output[differs_at] IS NOT NULL
                THEN s.alone_rows[predicted_by][list_position(s.alone_top[predicted_by], s.alone_output[differs_at])]
                    - s.alone_rows[predicted_by][list_position(s.alone_top[predicted_by], s.output_ids[differs_at])]
        END AS lead
    FROM sides AS s
    WHERE s.probe = 'concurrent' AND s.output_ids IS NOT NULL AND s.alone_output IS NOT NULL
),

compared AS (
    SELECT
        s.*, n.mean_kl, n.positions, n.flips, coalesce(n.nonfinite, 0) + s.own_nonfinite AS not_finite,
        s.start + f.first_above AS first_position, coalesce(k.says, w.says) AS leaked, g.differs_at, g.lead,
        s.probe <> 'concurrent'
        AND s.rows = s.alone_rows[s.start + 1:s.start + len(s.rows)]
        AND s.tails = s.alone_tails[s.start + 1:s.start + len(s.tails)] AS same,
        CASE
            WHEN s.miscounted IS NOT NULL THEN 'invalid value for ' || s.miscounted
            WHEN s.probe IN ('batched', 'chunked', 'concurrent') AND s.size IS NULL THEN 'its size is missing'
            WHEN s.no_alone THEN 'there is no answer of the case alone to compare with'
            WHEN s.probe = 'concurrent' THEN
                CASE
                    WHEN CASE WHEN s.chat
                        THEN s.text IS NULL OR s.alone_text IS NULL ELSE s.output_ids IS NULL
                        OR s.alone_output IS NULL END
                        THEN 'the probe returned no answer'
                    WHEN s.canaries_unread OR len(list_filter(s.canaries, lambda c: c IS NULL)) > 0
                        THEN 'the secrets of its conversations cannot be read'
                    WHEN len(s.canaries) > 0 AND (
                        len(s.texts) <> len(s.canaries) OR len(list_filter(s.texts, lambda t: t IS NULL)) > 0
                    )
                        THEN format(
                            '{} of {} answers can be searched for secrets',
                            len(list_filter(s.texts, lambda t: t IS NOT NULL)),
                            len(s.canaries)
                        )
                END
            WHEN s.rows IS NULL OR s.tails IS NULL OR len(s.rows) = 0 THEN 'the probe returned no log-probabilities'
            WHEN s.prompt_ids IS DISTINCT FROM s.alone_ids THEN 'its sequence is not the one that was asked alone'
            WHEN s.start < 0 OR s.start + len(s.rows) > len(s.alone_rows) OR len(s.rows) <> len(s.tails)
                THEN format('it has {} positions from {}, alone it has {}', len(s.rows), s.start, len(s.alone_rows))
        END AS defect,
        CASE s.probe
            WHEN 'batched' THEN format('batched with {} others, row {}', s.size - 1, s.place)
            WHEN 'chunked' THEN format('in chunks of {}', s.size)
            WHEN 'prefix'
                THEN format(
                    'after others with the same prefix ({} positions from the cache)', coalesce(s.cached, s.start)
                )
            WHEN 'reused' THEN 'in the slot of a finished request'
            WHEN 'concurrent' THEN format('with {} at once', s.size)
            ELSE s.probe
        END AS scene
    FROM sides AS s
    LEFT JOIN numeric.cases AS n ON n.kind = 'state' AND n.trace_row = s.trace_row
    LEFT JOIN firsts AS f ON f.trace_row = s.trace_row
    LEFT JOIN leaks AS k ON k.trace_row = s.trace_row
    LEFT JOIN swapped AS w ON w.trace_row = s.trace_row
    LEFT JOIN generated AS g ON g.trace_row = s.trace_row
),

judged AS (
    SELECT
        *,
        CASE
            WHEN leaked IS NOT NULL THEN 'mismatch'
            WHEN defect IS NOT NULL THEN 'error'
            WHEN chat AND probe = 'concurrent' THEN CASE WHEN text = alone_text THEN 'match' ELSE 'no_truth' END
            WHEN probe = 'concurrent' THEN
                CASE
                    WHEN differs_at IS NULL OR abs(lead) <= greatest(tie_nats, max_flip_margin) THEN 'match'
                    WHEN max_flip_margin IS NULL AND abs(lead) <= sure_lead_nats THEN 'no_truth'
                    ELSE 'mismatch'
                END
            WHEN probe = 'prefix' AND coalesce(cached, start) = 0 THEN 'not_observed'
            WHEN same THEN 'match'
            WHEN not_finite > 0 THEN CASE WHEN weights_broken THEN 'noted' ELSE 'mismatch' END
            WHEN mean_kl IS NULL OR margin IS NULL THEN 'no_truth'
            WHEN mean_kl <= margin THEN 'match'
            ELSE 'mismatch'
        END AS outcome
    FROM compared
),

told AS (
    SELECT
        *,
        CASE
            WHEN leaked IS NOT NULL THEN coalesce(scene || ': ', '') || leaked
            WHEN defect IS NOT NULL THEN defect
            WHEN chat AND outcome = 'no_truth'
                THEN format(
                    '{}: its answer differs from the answer alone, and with hidden ids this may be a tie: {}',
                    scene,
                    shown_difference(alone_text, text)
                )
            WHEN outcome = 'not_observed' THEN 'no part of the shared prefix came from a cache'
            WHEN differs_at IS NOT NULL
                THEN format(
                    '{}: token {} of the answer is {}, alone it is {}', scene, differs_at,
                    coalesce(output_ids[differs_at]::VARCHAR, 'the end'),
                    coalesce(alone_output[differs_at]::VARCHAR, 'the end')
                )
                || coalesce(
                    format(
                        ', which was {} by {:.2g} nats', CASE WHEN lead < 0 THEN 'behind' ELSE 'ahead' END, abs(lead)
                    ),
                    ''
                )
                || CASE outcome
                    WHEN 'match' THEN ': a tie'
                    WHEN 'no_truth' THEN '; without a floor this may be a tie'
                    ELSE ''
                END
            WHEN same OR probe = 'concurrent' THEN NULL
            WHEN not_finite > 0 THEN format('{}: NaN or infinite values among its numbers', scene)
            WHEN outcome = 'no_truth'
                THEN format('{}: its numbers differ and no margin is declared for this pass', scene)
            WHEN outcome = 'mismatch'
                THEN format('{}: mean KL {:.2g}, allowed {:.2g}', scene, mean_kl, margin)
        END
        || CASE
            WHEN outcome <> 'mismatch' OR first_position IS NULL THEN ''
            WHEN probe = 'prefix' AND first_position = start
                THEN format(', first differing position {} (the first one not from the cache)', first_position)
            WHEN probe = 'chunked' AND first_position > 0 AND first_position % size = 0
                THEN format(', first differing position {} (a border of {})', first_position, size)
            WHEN first_position > 0 AND first_position % 32 = 0
                THEN format(
                    ', first differing position {} (a border of {})', first_position,
                    list_max(list_filter([32, 64, 128, 256, 512, 1024], lambda b: first_position % b = 0))
                )
            ELSE format(', first differing position {}', first_position)
        END AS detail
    FROM judged
)

SELECT
    run_id, cell_id, node_id, attempt, judged, later, stage, probe, case_id, case_digest, tags, observed,
    repeat, 'self' AS truth, NULL::VARCHAR AS reference_id, outcome,
    'the answer it gives alone' AS expected,
    CASE outcome WHEN 'match' THEN 'the answer it gives alone' WHEN 'mismatch' THEN 'another answer' END AS seen,
    detail, payload_digest, trace_row,
    CASE WHEN same THEN 0.0 WHEN probe <> 'concurrent' AND defect IS NULL AND not_finite = 0 THEN mean_kl END AS effect,
    positions, flips AS mismatches, not_finite AS nonfinite,
    -- What is certain comes first: another's secret or NaN, then the larger difference.
    CASE WHEN leaked IS NOT NULL OR not_finite > 0 THEN 'inf'::DOUBLE ELSE coalesce(mean_kl, abs(lead), 0) END
        AS severity,
    leaked IS NOT NULL AS leak, chat, probe AS kind, size, place AS row, cached, start, first_position, margin
FROM told
UNION ALL BY NAME
SELECT
    run_id, cell_id, node_id, attempt, judged, later, stage, probe, case_id, case_digest, tags, observed,
    repeat, 'self' AS truth, NULL::VARCHAR AS reference_id, gap AS outcome, why AS detail, payload_digest,
    trace_row, 0.0 AS severity, false AS leak, false AS chat, probe AS kind, margin
FROM staging.self_traces
WHERE stage = 'state' AND gap IS NOT NULL
