-- One row is a probe of a case in an attempt, next to its truth, once ties of the chain are known.
SELECT
    a.* REPLACE (coalesce(c.outcome, a.outcome) AS outcome, coalesce(c.detail, a.detail) AS detail),
    c.symptom
FROM compared.comparisons AS a
LEFT JOIN chain.compared AS c USING (observation_id)
