-- One row is a repeat of a forced case in an attempt, next to the first time it was asked.
--
-- Each repeat of a forced case against its `first`: bitwise equal, or within the pass's margin.
--
-- NaN needs care: broken weights give NaN whenever they are asked, and that must end at `weights` or
-- `logits`. So non-finite numbers break the instrument only when repeats disagree and the tensors
-- themselves are finite.
--
-- `first` also shows whether there are numbers at all: probabilities sum to one, by the probe's own word
-- and by what is stored, and no position gives one and the same number to every id. `aligned` shows
-- whether they stand at their positions (`numeric.shifts`).
WITH asked AS (
    SELECT
        t.*, t.rowid AS trace_row, a.judged, a.later, a.margin,
        coalesce(greatest(TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.nonfinite' AS INTEGER), 0), 0)::BIGINT AS nonfinite,
        -- A count or an error that is no number, or a row that nobody can point at.
        coalesce(TRY_CAST(coalesce(TRY_CAST(t.value AS JSON) ->> '$.nonfinite', '0') AS INTEGER), -1) < 0
        OR (TRY_CAST(t.value AS JSON) ->> '$.mass_error') IS NOT NULL
        AND TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.mass_error' AS DOUBLE) IS NULL
        OR t.probe = 'aligned' AND t.value IS NOT NULL
        AND coalesce(TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.first' AS INTEGER), -1) < 0 AS misread,
        greatest(
            TRY_CAST(TRY_CAST(t.value AS JSON) ->> '$.mass_error' AS DOUBLE),
            list_max(list_transform(
                list_zip(t.ref_topk_logprobs, t.tail_logprob),
                lambda z: abs(1 - list_sum(list_transform(z[1], lambda p: exp(p::DOUBLE))) - exp(z[2]::DOUBLE))
            ))
        ) AS mass_error,
        len(list_filter(
            t.ref_topk_logprobs, lambda row: len(row) > 1 AND list_max(row) = list_min(row)
        )) AS flat
    FROM traces AS t
    INNER JOIN staging.tries AS a USING (run_id, cell_id, node_id, attempt)
    WHERE t.stage = 'instrument' AND t.case_id <> '*'
),

broken_weights AS (
    SELECT DISTINCT run_id, cell_id, node_id, attempt
    FROM compared.weights
    WHERE outcome = 'mismatch'
),

compared AS (
    SELECT
        b.*, s.tokens, s.unshifted, s.earlier, s.later AS after, s.shift,
        a.payload_digest = b.payload_digest AS same, a.case_id IS NULL AS no_first,
        a.error AS first_error, w.run_id IS NOT NULL AS weights_broken, n.mean_kl,
        coalesce(n.nonfinite, 0) + b.nonfinite AS not_finite, n.positions
    FROM asked AS b
    LEFT JOIN asked AS a
        ON a.run_id = b.run_id AND a.cell_id = b.cell_id AND a.node_id = b.node_id
        AND a.attempt = b.attempt AND a.case_id = b.case_id AND a.probe = 'first'
    LEFT JOIN numeric.cases AS n
        ON n.kind = 'instrument' AND n.trace_row = b.trace_row
    LEFT JOIN broken_weights AS w
        ON w.run_id = b.run_id AND w.cell_id = b.cell_id AND w.node_id = b.node_id
        AND w.attempt = b.attempt
    LEFT JOIN numeric.shifts AS s
        ON s.run_id = b.run_id AND s.cell_id = b.cell_id AND s.node_id = b.node_id
        AND s.attempt = b.attempt AND b.probe = 'aligned'
)

SELECT
    c.run_id, c.cell_id, c.node_id, c.attempt, c.judged, c.later, 'instrument' AS stage, c.probe, c.case_id,
    c.case_digest, c.tags, c.observed, c.repeat, 'self' AS truth, NULL::VARCHAR AS reference_id,
    CASE
        WHEN c.observed NOT IN ('path', 'endpoint', 'reenacted') THEN 'not_observed'
        WHEN c.error IS NOT NULL OR c.payload_digest IS NULL OR c.misread THEN 'error'
        WHEN c.probe = 'aligned' AND (c.tokens IS NULL OR c.tokens < r.min_aligned_tokens) THEN 'no_truth'
        WHEN c.probe = 'aligned' THEN CASE WHEN c.shift IS NULL THEN 'match' ELSE 'mismatch' END
        WHEN c.no_first OR c.first_error IS NOT NULL THEN 'error'
        WHEN c.not_finite = 0 AND (c.mass_error > r.max_mass_error OR isnan(c.mass_error)) THEN 'mismatch'
        WHEN c.not_finite = 0 AND c.flat > 0 AND NOT c.weights_broken THEN 'mismatch'
        WHEN c.probe = 'first' OR c.same THEN 'match'
        WHEN c.not_finite > 0 THEN CASE WHEN c.weights_broken THEN 'noted' ELSE 'mismatch' END
        WHEN c.mean_kl IS NULL OR c.margin IS NULL THEN 'no_truth'
        WHEN c.mean_kl <= c.margin THEN 'match'
        ELSE 'mismatch'
    END AS outcome,
    CASE WHEN c.probe = 'aligned' THEN 'its own answer' ELSE 'the numbers of `first`' END AS expected,
    CASE
        WHEN c.probe = 'aligned' THEN format('rows shifted by {}', coalesce(c.shift, 0))
        WHEN c.same THEN 'the same bits'
        ELSE format('mean KL {:.2g}', c.mean_kl)
    END AS seen,
    CASE
        WHEN c.error IS NOT NULL THEN c.error
        WHEN c.payload_digest IS NULL THEN 'the probe returned nothing'
        WHEN c.misread THEN 'the numbers of the probe cannot be read'
        WHEN c.probe = 'aligned' AND (c.tokens IS NULL OR c.tokens < r.min_aligned_tokens)
            THEN
                format(
                    '{} tokens of its own answers are too few to show whether its numbers are shifted',
                    coalesce(c.tokens, 0)
                )
        WHEN c.shift IS NOT NULL
            THEN format(
                'its numbers are shifted by one position: of {} tokens of its own answers, the correct row '
                || 'predicts {:.0f} %, the row {} it {:.0f} %',
                c.tokens,
                100 * c.unshifted,
                CASE WHEN c.shift < 0 THEN 'before' ELSE 'after' END,
                100 * greatest(c.earlier, c.after)
            )
        WHEN c.probe = 'aligned' THEN NULL
        WHEN c.no_first OR c.first_error IS NOT NULL THEN 'there is no first answer to compare with'
        WHEN c.not_finite = 0 AND c.mass_error > r.max_mass_error
            THEN format('the probabilities of {} sum to 1 ± {:.2g}', c.case_id, c.mass_error)
        WHEN c.not_finite = 0 AND c.flat > 0 AND NOT c.weights_broken
            THEN
                format(
                    '{} has the same number for every token at {} positions: that is no distribution', c.case_id, c.flat
                )
        WHEN c.not_finite > 0 AND NOT c.same
            THEN
                format(
                    '{} gives different numbers when {}, with NaN or infinite values among them', c.case_id, r2.meaning
                )
        WHEN NOT c.same AND c.mean_kl > c.margin
            THEN
                format(
                    '{} gives different numbers when {}: mean KL {:.2g}, allowed {:.2g}',
                    c.case_id,
                    r2.meaning,
                    c.mean_kl,
                    c.margin
                )
        WHEN NOT c.same AND c.margin IS NULL THEN 'answers differ and no margin is declared for this pass'
    END AS detail,
    c.payload_digest,
    c.trace_row,
    CASE WHEN c.same OR c.probe IN ('first', 'aligned') THEN 0.0 ELSE c.mean_kl END AS effect,
    c.positions, c.not_finite AS nonfinite
FROM compared AS c
CROSS JOIN sources.rules AS r
LEFT JOIN (
    VALUES
        ('first', 'asked once'), ('again', 'asked again'), ('reordered', 'asked in another order'),
        ('uncached', 'asked without a cache')
) AS r2 (probe, meaning) ON c.probe = r2.probe
