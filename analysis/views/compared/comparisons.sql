-- One row is a probe of a case in an attempt, next to its truth.
--
-- Every probe next to its truth, each on its own: a chain that differs at all is a `mismatch` here.
--
-- Whether it is a tie depends on the cell's own logits (`chain.compared`); this relation is what those
-- are judged from, and `alignments` is the finished one.
WITH numbers AS (
    SELECT * FROM numeric.cases WHERE kind = 'reference'
),

all_rows AS (
    SELECT
        o.observation_id, o.run_id, o.cell_id, o.node_id, o.attempt, o.judged, o.later, o.stage, o.probe, o.case_id,
        o.case_digest, o.tags, o.observed, o.repeat, o.truth, o.reference_id, o.outcome,
        o.expected, o.seen, o.detail,
        n.mean_kl AS effect, n.positions, n.flips AS mismatches, n.nonfinite,
        coalesce(n.mean_kl, 0) AS severity, NULL::VARCHAR AS explains,
        o.payload_digest, o.trace_row, o.truth_row
    FROM staging.observations AS o
    LEFT JOIN numbers AS n USING (trace_row)
    UNION ALL BY NAME
    SELECT * FROM compared.config
    UNION ALL BY NAME
    SELECT * FROM compared.weights
    UNION ALL BY NAME
    SELECT * FROM compared.instrument
    UNION ALL BY NAME
    SELECT * EXCLUDE (leak, chat, kind, size, row, cached, start, first_position, margin) FROM compared.state
    UNION ALL BY NAME
    SELECT * FROM compared.sampling
)

SELECT row_number() OVER () AS comparison_id, * FROM all_rows
