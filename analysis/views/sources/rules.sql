-- One row is the whole judgement: every threshold is a column.
--
-- Every threshold of the judgement, in one row. A change of meaning here raises rules_version.
SELECT
    'r5' AS rules_version,

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

    -- Margin of the pass `structure` where the suite declares none, in nats: four orders of magnitude above the
    -- fp32 floor of four engines on CPUs, and two below the smallest planted defect (rms eps, 2e-5).
    1e-7 AS structure_margin,

    -- Floor: prediction t with B - 1 degrees of freedom (Geisser 1993), needs this many configurations.
    20 AS min_floor_configurations,
    -- With fewer, but at least so many, the prior of other models' floors joins them (`sources.floor_priors`):
    -- their own mean is then known to half a standard deviation.
    4 AS min_prior_configurations,
    -- Benign configurations may agree bitwise; 0.05 nats (5 % of mean KL) is the least spread assumed.
    -- It widens the prediction, so it can only lower the rate of alarms.
    0.05 AS min_floor_sd,
    -- Benjamini & Hochberg 1995, over the planned family, so that a test that never ran counts too: of all
    -- cells called beyond their floor at most 5 % are not, on average. `divergent` needs the lower bound
    -- above δ besides, so this bounds its error rate from above; `alarm_rates` measures it.
    0.05 AS false_discovery_rate,
    -- One-sided confidence of published rates of alarms (Clopper & Pearson 1934).
    0.95 AS rate_confidence,

    -- Instrument: |1 - sum of probabilities| of a log-softmax in fp32 stays near 1e-6 for 1e5 tokens;
    -- a thousandth means that the numbers are shifted, cut or not a distribution.
    1e-3 AS max_mass_error,
    -- Instrument: an answer agrees with the rows that predict it at this share of its tokens. A row one
    -- off agrees by chance at the share of repeated tokens, a few per cent: for 4 tokens below 1e-4, and
    -- only an answer that its own rows do not predict is looked at. Fewer tokens are no evidence.
    0.9 AS aligned_share,
    4 AS min_aligned_tokens,
    -- Instrument: first, again, reordered, uncached and aligned; an instrument that was asked in fewer ways
    -- is not vouched for. A number of probes, no estimate: it has no error rate.
    5 AS instrument_probes,

    -- Sampling, draws: χ² over bins expected at least this often (Cochran 1954), rare tokens several to a bin.
    5.0 AS min_expected_draws,
    -- Sampling, draws: where less than this share of the draws can be tested, because the rest fell where a
    -- tie or an unknown tail leaves open what is due, more stands outside of the test than inside. It decides
    -- between a match and no truth only, so it can alarm nothing.
    0.5 AS min_used_share,
    -- A tie of t nats in one logit moves a share p by p(1 - p)·t, so by this of t at most: p = 1/2.
    0.25 AS tie_share,
    -- Sampling, draws: nominal chance of a false alarm per test. With bins of 5 expected draws the true
    -- one is larger at this depth: 4e-6 to 1e-5 in 4 million simulated tests each of 500 and 2000 draws
    -- over 17 to 57 bins, before it is divided by three for three tests (so divided: 1 in 3 million over 40
    -- to 150 bins). A run of 200 cells with 10 such cases makes 2000 tests and so 0.002 false alarms by its
    -- name, 0.02 as measured. That the best of the readings of a request is taken only lowers it.
    1e-6 AS draws_alpha,
    -- Power that is promised for the effect that is printed beside a passed test.
    0.99 AS draws_power,
    -- Hint of a likely sampler: a setting with a lower p does not explain the draws, and of settings this close
    -- in log-likelihood the better known one is named. An error costs a wrong hint and no verdict.
    1e-3 AS hint_least_p,
    1e-6 AS hint_alike,
    -- Two logits closer than this are a tie in any arithmetic: float32 keeps 1e-6 relative of logits
    -- around 30, and a prompt evaluated in another batch shape moved them by up to 4e-4 (fp32 and f16
    -- KV on CPUs). Half precision moves more: its floor says how far (`max_flip_margin`).
    1e-3 AS tie_nats,
    -- Without a floor nothing says how far; but no benign configuration flipped a lead of more than 0.30
    -- nats (q8_0, 4,448 positions, four engines), so above this it is a violation with or without one.
    0.5 AS sure_lead_nats,
    -- State, chats: a server shows texts only. A tie leads to other words, not to so many characters of the
    -- answer that another conversation got; shorter ones ("Yes.", a number) come about by themselves. No
    -- estimate: it decides between a leak and no truth.
    16 AS min_leaked_chars,

    -- Weights: slack of the least-squares scale of a quantised tensor beyond what its error explains;
    -- f16 block scales round by 2^-11 = 0.0005 each. A whole tensor scaled by 1 % stands clear of it.
    0.002 AS scale_slack,

    -- Profile of KL over positions; it places a fault that another rule has found, so its error costs a
    -- wrong hint and no verdict. Each side of a step needs this many positions, the whole twice as many.
    4 AS profile_side,
    -- Share of the variance of ln KL that a step or a line must explain. The best of 100 splits of pure
    -- noise explains about 0.1; an ideal line is explained to 0.75 by its best step, and so wins.
    0.5 AS profile_explained,
    -- And it must rise by this much in ln KL: a factor of 4. Between equal positions a factor of 2 is common.
    ln(4) AS profile_rise,
    -- A single position that holds this share of the summed KL.
    0.9 AS profile_single_share,
    -- A step this near to a border is named after it: a border of n rows shows at row n, or one off where
    -- an engine counts the first token otherwise.
    1 AS profile_border_slack,
    -- The least border that is named. Below 16 nearly every position lies within one of a power of two; from
    -- there on a chance step does at 3 of 16 places, then 3 of 32 and so on.
    16 AS profile_least_border,
    -- Positions beyond this are no positions: no model has so long a context (the longest have 10^7).
    2 ^ 24 AS max_position,

    -- Self-test: the shares of injected faults that must be detected, and of these be placed at an accepted stage.
    -- Promises of this program, no estimates.
    0.95 AS selftest_sensitivity,
    0.90 AS selftest_placement
