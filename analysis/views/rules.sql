-- Every threshold of the judgement, in one row. A change of meaning here raises rules_version.
SELECT
    'r2' AS rules_version,

    -- Numeric rule. x = ln(mean KL + kl_offset): the offset keeps bitwise equality finite and lies at
    -- the fp32 floor measured between four engines on CPUs (2e-12 to 6e-12 nats).
    1e-12 AS kl_offset,
    -- Resamples of the bootstrap clustered by case (Field & Welsh 2007, "Bootstrapping clustered
    -- data"): cases, not positions, are exchangeable. 1000 puts about 1 % of Monte Carlo error on a
    -- 95 % bound (Efron & Tibshirani 1993, ch. 14).
    1000 AS resamples,
    0.025 AS lower_quantile,
    0.975 AS upper_quantile,
    -- With fewer clusters a bootstrap has too few distinct resamples to carry a 95 % bound (5 give
    -- 126); then U is the largest single position and L the smallest case mean.
    5 AS min_clusters,

    -- Floor: prediction t with B - 1 degrees of freedom (Geisser 1993), needs this many configurations.
    20 AS min_floor_configurations,
    -- Benign configurations may agree bitwise; 0.05 nats (5 % of mean KL) is the least spread assumed.
    0.05 AS min_floor_sd,
    -- Benjamini & Hochberg 1995, over the planned family, so that a test that never ran counts too.
    0.05 AS false_discovery_rate,

    -- Instrument: |1 - sum of probabilities| of a log-softmax in fp32 stays near 1e-6 for 1e5 tokens;
    -- a thousandth means that the numbers are shifted, cut or not a distribution.
    1e-3 AS max_mass_error,

    -- Weights: slack of the least-squares scale of a quantised tensor beyond what its error explains;
    -- f16 block scales round by 2^-11 = 0.0005 each. A whole tensor scaled by 1 % stands clear of it.
    0.002 AS scale_slack
