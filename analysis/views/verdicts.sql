-- The newest judgement of every run.
SELECT * FROM stored_verdicts
UNION ALL BY NAME
SELECT * FROM fresh_verdicts
