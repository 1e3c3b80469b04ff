-- One row is the instrument of a (cell, node): its verdict over all cases, and what it says.
SELECT run_id, cell_id, node_id, verdict, coalesce(reason.text, explanation) AS says, explanation
FROM verdicts.exact
WHERE stage = 'instrument' AND case_group = '*'
