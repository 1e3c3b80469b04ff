-- One row is a key by which runs find the truths and floors of a function.
--
-- A run finds them by the function. A run of an earlier version names its weights only: it finds what earlier
-- versions froze over these weights, and what was frozen since for the one function that has them. Where several
-- functions have them, nobody knows which one that run meant, so it finds none of these.
WITH frozen AS (
    SELECT function_digest, weights_digest FROM sources.reference_traces
    UNION
    SELECT function_digest, weights_digest FROM sources.floors
)

SELECT function_digest, weights_digest, function_digest AS found_by
FROM frozen
WHERE function_digest IS NOT NULL
UNION ALL
SELECT function_digest, weights_digest, weights_digest
FROM frozen
QUALIFY function_digest IS NULL OR count(function_digest) OVER (PARTITION BY weights_digest) = 1
