-- One row is a probe of a case in an attempt, next to its truth.
--
-- Every probe next to its truth, and how they compare.
--
-- outcome: match, mismatch, tie (chain only), noted (differs, no alarm), numeric (judged by its
-- numbers), and what is never a match: missing, error, no_truth, not_observed.
SELECT * EXCLUDE (comparison_id, observation_id) FROM chain.alignments
