-- One row is a compute dtype of a reference engine, with what is known of floors of other models.
--
-- The prior of a floor with few configurations. `sd` is that of x = ln(mean KL + kl_offset) between benign
-- configurations of one model: twice the pooled sd of the shipped floors of that dtype, and at least 0.5 (a
-- factor of 1.6 in KL), as a floor with few configurations is measured over few cases too. `weight` is in
-- degrees of freedom. A model whose own spread is up to `sd`, twice that of those measured, raises no more
-- false alarms than the nominal rate. A dtype without a shipped floor (`*`) takes the widest.
--
-- Where from: suites/references/floors, 20 configurations of one model each, prefill and decode.
SELECT engine, compute_dtype, sd::DOUBLE AS sd, weight::DOUBLE AS weight
FROM (
    VALUES
    ('transformers', 'f32', 0.59, 8),
    ('transformers', 'f16', 1.18, 8),
    ('transformers', 'bf16', 1.17, 8),
    ('transformers', 'q8_0', 0.50, 8),
    ('transformers', '*', 1.18, 8)
) AS p (engine, compute_dtype, sd, weight)
