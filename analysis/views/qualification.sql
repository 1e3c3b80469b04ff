-- The newest judgement of every run, one row per (cell, node).
SELECT * FROM stored_qualification
UNION ALL BY NAME
SELECT * FROM fresh_qualification
