-- One row is a judged comparison of `logits` in one case group.
--
-- The forced cases by the groups in which they are judged: `*`, each tag, and apart from `*` the cases
-- of each declaration that is scoped to cases or tags (`*bound <entry>`). Were those judged within `*`,
-- their bound would excuse all others, or they would condemn the rest.
SELECT
    g.* REPLACE (
        CASE WHEN g.case_group = '*' AND b.is_scoped THEN format('*bound {}', b.entry) ELSE g.case_group END
            AS case_group
    ),
    b.bound, b.reason AS bound_reason
FROM compared.grouped AS g
LEFT JOIN compared.bounded_cases AS b USING (run_id, cell_id, node_id, attempt, case_id)
WHERE g.stage = 'logits'
