-- One row is a stage of a suite of a run that has no case, with the reason.
--
-- A derived suite says why it asks nothing of a stage, for instance because the form of tool calls is unknown.
SELECT DISTINCT r.run_id, s.key AS suite, e.key AS stage, e.value ->> '$' AS why
FROM runs AS r
CROSS JOIN json_each(TRY_CAST(r.config AS JSON), '$.unasked') AS s
CROSS JOIN json_each(s.value) AS e
