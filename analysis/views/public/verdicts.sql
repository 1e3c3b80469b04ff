-- One row is a stage of a (cell, node) in one case group.
--
-- The newest judgement of every run.
SELECT * FROM sources.stored_verdicts
UNION ALL BY NAME
SELECT * FROM verdicts.verdicts
