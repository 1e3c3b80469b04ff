-- One row is a cluster that a bootstrap resample draws, for one number of clusters.
--
-- How often each cluster is drawn in each resample, for every number of clusters that occurs. Drawn by
-- a fixed hash, so that the same evidence has the same bounds everywhere and always.
WITH sizes AS (
    SELECT DISTINCT g.clusters
    FROM numeric.groups AS g
    INNER JOIN sources.judging AS j USING (run_id)
    CROSS JOIN sources.rules AS r
    WHERE g.clusters >= r.min_clusters
),

draws AS (
    SELECT s.clusters, unnest(range(r.resamples)) AS draw
    FROM sizes AS s
    CROSS JOIN sources.rules AS r
),

picks AS (
    SELECT clusters, draw, unnest(range(clusters)) AS pick FROM draws
)

SELECT clusters, draw, md5_number_lower(draw || '/' || pick) % clusters AS slot, count(*) AS times
FROM picks
GROUP BY ALL
