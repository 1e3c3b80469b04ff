-- One row is a judged probe of the chain in one case group.
--
-- The chain's rows of `compared.grouped`, once ties are told from symptoms.
SELECT
    g.* REPLACE (
        coalesce(c.outcome, g.outcome) AS outcome,
        coalesce(c.detail, g.detail) AS detail,
        g.is_divergent AND coalesce(c.outcome = 'mismatch', true) AS is_divergent,
        g.is_expected AND coalesce(c.outcome = 'mismatch', true) AS is_expected,
        g.is_gap OR coalesce(c.outcome = 'no_truth', false) AS is_gap
    ),
    c.symptom
FROM compared.grouped AS g
LEFT JOIN chain.compared AS c USING (observation_id)
WHERE g.stage = 'chain'
