-- One row is a key by which a run finds the truths and floors of a function.
--
-- A run finds them by the function. A run of an earlier version names its weights only: it finds what earlier
-- versions froze over these weights, and what was frozen since for the one function that has them. Where several
-- functions have them, nobody knows which one that run meant, so it finds none of these.
WITH frozen AS (
    SELECT o.run_id, t.function_digest, t.weights_digest
    FROM sources.reference_traces AS t
    INNER JOIN sources.reference_roots AS o ON t.root = o.root
    UNION
    SELECT o.run_id, f.function_digest, f.weights_digest
    FROM sources.floors AS f
    INNER JOIN sources.reference_roots AS o ON f.root = o.root
)

SELECT run_id, function_digest, weights_digest, function_digest AS found_by
FROM frozen
WHERE function_digest IS NOT NULL
UNION ALL
SELECT run_id, function_digest, weights_digest, weights_digest
FROM frozen
QUALIFY function_digest IS NULL OR count(function_digest) OVER (PARTITION BY run_id, weights_digest) = 1
