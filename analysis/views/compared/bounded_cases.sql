-- One row is a forced case of an attempt under a declared numeric bound.
--
-- Forced cases under a declared numeric bound: the widest that covers each. An entry that names cases or
-- tags (`is_scoped`) covers those and no others.
SELECT run_id, cell_id, node_id, attempt, case_id, entry, is_scoped, bound, reason
FROM compared.expected_hits
WHERE stage = 'logits' AND bound IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY run_id, cell_id, node_id, attempt, case_id ORDER BY bound DESC, is_scoped, entry
) = 1
