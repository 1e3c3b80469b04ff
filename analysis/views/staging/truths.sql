-- One row is a key of the reference as one run sees it.
--
-- The reference trace of each key as seen by each run: its first reference root that has one wins. Runs of earlier
-- versions name tokenizer.json alone (`t1`), which is the first half of what runs name today (`t2`).
WITH keyed AS (
    SELECT
        o.run_id, o.rank, r.rowid AS truth_row, r.reference_id, r.created, r.case_digest, r.stage, r.probe,
        k.found_by AS function_digest,
        CASE
            WHEN k.found_by = k.weights_digest
                THEN regexp_replace(r.tokenizer_digest, '^t2:([0-9a-f]+)-.*$', 't1:\1')
            ELSE r.tokenizer_digest
        END AS tokenizer_digest
    FROM sources.reference_traces AS r
    INNER JOIN sources.reference_roots AS o ON r.root = o.root
    INNER JOIN staging.truth_keys AS k
        ON o.run_id = k.run_id AND r.weights_digest = k.weights_digest
        AND r.function_digest IS NOT DISTINCT FROM k.function_digest
)

SELECT run_id, function_digest, tokenizer_digest, case_digest, stage, probe, truth_row, reference_id
FROM keyed
QUALIFY row_number() OVER (
    PARTITION BY run_id, function_digest, tokenizer_digest, case_digest, stage, probe
    ORDER BY rank, created DESC, truth_row DESC
) = 1
