-- One row is a (cell, node) of a run.
--
-- The newest judgement of every run, one row per (cell, node).
SELECT * FROM sources.stored_qualification
UNION ALL BY NAME
SELECT * FROM verdicts.qualification
