-- One row is a (cell, node) and a stage that differing facts of `config` explain.
--
-- Facts of `config` that differ, by the stage that would show it. `hints`: what is no alarm by itself,
-- but says why where its stage differs. A digest says it to nobody.
SELECT
    run_id, cell_id, node_id, explains AS stage,
    string_agg(detail, '; ' ORDER BY case_id, detail) FILTER (WHERE is_divergent) AS details,
    string_agg(detail, '; ' ORDER BY case_id, detail) FILTER (
        WHERE outcome = 'noted' AND NOT ends_with(case_id, '_digest')
    ) AS hints
FROM compared.grouped
WHERE stage = 'config' AND case_group = '*' AND explains IS NOT NULL
GROUP BY ALL
