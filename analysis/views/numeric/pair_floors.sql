-- One row is a (cell, node) that has a floor.
--
-- The floor of each (cell, node): same function, compute dtype and backend; the cell's own suite first,
-- then the first root that has one, then the newest. The largest flip counts over both of its probes.
WITH whole AS (
    SELECT
        run_id, floor_id, function_digest, compute_dtype, backend, suite, min(rank) AS rank,
        max(created) AS created, max(max_flip_margin) AS max_flip_margin
    FROM numeric.floor_fits
    GROUP BY run_id, floor_id, function_digest, compute_dtype, backend, suite
)

SELECT p.run_id, p.cell_id, p.node_id, f.* EXCLUDE (run_id)
FROM staging.pairs AS p
INNER JOIN whole AS f
    ON p.run_id = f.run_id AND p.function_digest = f.function_digest
    AND lower(p.compute_dtype) = f.compute_dtype AND p.backend = f.backend
QUALIFY row_number() OVER (
    PARTITION BY p.run_id, p.cell_id, p.node_id
    ORDER BY (f.suite = p.suite) DESC, f.rank, f.created DESC, f.floor_id
) = 1
