-- One row is a key of the reference as one run sees it.
--
-- The reference trace of each key as seen by each run: its first reference root that has one wins.
SELECT
    o.run_id, k.found_by AS function_digest, r.tokenizer_digest, r.case_digest, r.stage, r.probe,
    r.rowid AS truth_row, r.reference_id
FROM sources.reference_traces AS r
INNER JOIN sources.reference_roots AS o ON r.root = o.root
INNER JOIN staging.truth_keys AS k
    ON o.run_id = k.run_id AND r.weights_digest = k.weights_digest
    AND r.function_digest IS NOT DISTINCT FROM k.function_digest
QUALIFY row_number() OVER (
    PARTITION BY o.run_id, k.found_by, r.tokenizer_digest, r.case_digest, r.stage, r.probe
    ORDER BY o.rank, r.created DESC, r.rowid DESC
) = 1
