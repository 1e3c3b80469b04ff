-- One row is a ggml type with its calibrated bound.
--
-- What a quantisation costs: bound on ||q(x) - x|| / ||x|| of one tensor, per ggml type.
--
-- A block of n values shares a scale of amax / levels (steps on each side of zero). Rounding to the
-- nearest step errs uniformly: rms = amax / (levels * sqrt(12)). A block's own rms is at least
-- amax / sqrt(n), reached when one outlier holds all of it, so the ratio is at most
-- sqrt(n) / (levels * sqrt(12)). Gaussian weights (E max|x| of 32 = 2.4 sigma) lie at under half of
-- that: 0.0055 of 0.0129 for Q8_0. Block layouts: ggml-common.h (ggml-org/llama.cpp).
--
-- The least-squares scale of q against x: an optimal quantiser shrinks by the square of its relative
-- error; what is left is noise that falls with the number of values n_values.
SELECT
    type,
    block_size,
    levels,
    sqrt(block_size) / (levels * sqrt(12.0)) AS max_relative_rmse
FROM (
    VALUES
        ('Q8_0', 32, 127.0),
        ('Q8_1', 32, 127.0),
        ('Q6_K', 16, 32.0),
        ('Q5_K', 32, 15.5),
        ('Q5_1', 32, 15.5),
        ('Q5_0', 32, 16.0),
        ('Q4_K', 32, 7.5),
        ('Q4_1', 32, 7.5),
        ('Q4_0', 32, 8.0),
        ('IQ4_NL', 32, 7.5),
        ('IQ4_XS', 32, 7.5),
        ('Q3_K', 16, 4.0)
) AS kinds (type, block_size, levels)
