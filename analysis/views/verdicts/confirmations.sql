-- One row is a divergent (cell, node), and whether swaps confirm its culprit.
--
-- Whether the chain confirms each culprit: one symptomatic case that does is enough, and one in which the
-- swap has no effect is `no` where none does. An effect that a control makes too says neither: another case,
-- or another swap, may. A case counts only if its symptom is one that the culprit can make and that no declared
-- difference accounts for; where swaps cannot tell parts apart, only if no other divergent one can make it.
--
-- A fact that explains its stage may confirm it too; a fact alone is confirmed by the stage that it would
-- spoil. For `interface` any part may turn out to be the one; none refutes it.
WITH suspected AS (
    SELECT run_id, cell_id, node_id, attempt, culprit, culprit AS part
    FROM verdicts.blamed
    WHERE verdict = 'divergent' AND culprit IS NOT NULL
    UNION
    SELECT run_id, cell_id, node_id, attempt, culprit, 'config'
    FROM verdicts.blamed
    WHERE verdict = 'divergent' AND earliest = 'config'
    UNION
    SELECT b.run_id, b.cell_id, b.node_id, b.attempt, b.culprit, f.stage
    FROM verdicts.blamed AS b
    INNER JOIN compared.differing_facts AS f
        ON f.run_id = b.run_id AND f.cell_id = b.cell_id AND f.node_id = b.node_id AND f.details IS NOT NULL
    WHERE b.verdict = 'divergent' AND b.culprit = 'config'
    UNION
    SELECT b.run_id, b.cell_id, b.node_id, b.attempt, b.culprit, r.part
    FROM verdicts.blamed AS b
    CROSS JOIN sources.swap_rules AS r
    WHERE b.culprit = 'interface'
),

symptomatic AS (
    SELECT
        s.*, c.case_id, c.repeat, c.symptom, c.hides,
        CASE WHEN c.symptom = 'output_ids' AND list_contains(c.hides, 'prompt') THEN 'hidden' ELSE c.symptom END
            AS rule_symptom
    FROM suspected AS s
    INNER JOIN chain.compared AS c
        ON c.run_id = s.run_id AND c.cell_id = s.cell_id AND c.node_id = s.node_id AND c.attempt = s.attempt
        AND c.probe = 'whole' AND c.outcome = 'mismatch'
    INNER JOIN sources.causes AS x
        ON x.stage = s.part AND x.symptom = c.symptom AND (x.behind IS NULL OR list_contains(c.hides, x.behind))
    LEFT JOIN chain.symptoms AS d
        ON d.run_id = c.run_id AND d.cell_id = c.cell_id AND d.node_id = c.node_id AND d.attempt = c.attempt
        AND d.probe = c.probe AND d.case_id = c.case_id AND d.repeat = c.repeat AND d.cause_verdict = 'expected'
    WHERE d.run_id IS NULL
),

rivals AS (
    SELECT
        y.run_id, y.cell_id, y.node_id, y.culprit, y.part, y.case_id, y.repeat,
        string_agg(DISTINCT v.stage, ', ' ORDER BY v.stage) AS rivals
    FROM symptomatic AS y
    INNER JOIN sources.causes AS x
        ON x.symptom = y.symptom AND x.stage <> y.part AND (x.behind IS NULL OR list_contains(y.hides, x.behind))
    INNER JOIN verdicts.verdicts AS v
        ON v.run_id = y.run_id AND v.cell_id = y.cell_id AND v.node_id = y.node_id
        AND v.stage = x.stage AND v.case_group = '*' AND v.verdict = 'divergent'
    GROUP BY ALL
),

tried AS (
    SELECT
        y.*, r.swap, r.controls, r.needed, r.is_sole, r.alone, a.rivals, s.says, s.error,
        CASE r.effect WHEN 'cures' THEN s.cures WHEN 'infects' THEN s.infects ELSE s.persists END AS effect,
        count(coalesce(p.cures, p.infects)) AS controls_seen,
        coalesce(bool_or(coalesce(p.cures, p.infects)), false) AS control_effect,
        string_agg(p.says, '; ' ORDER BY p.swap) FILTER (WHERE coalesce(p.cures, p.infects) IS NOT NULL)
            AS controls_say,
        min(p.error) AS control_error
    FROM symptomatic AS y
    LEFT JOIN sources.swap_rules AS r ON r.part = y.part AND r.symptom = y.rule_symptom
    LEFT JOIN compared.swaps AS s
        ON s.run_id = y.run_id AND s.cell_id = y.cell_id AND s.node_id = y.node_id AND s.attempt = y.attempt
        AND s.case_id = y.case_id AND s.repeat = y.repeat AND s.swap = r.swap
    LEFT JOIN compared.swaps AS p
        ON p.run_id = y.run_id AND p.cell_id = y.cell_id AND p.node_id = y.node_id AND p.attempt = y.attempt
        AND p.case_id = y.case_id AND p.repeat = y.repeat AND list_contains(r.controls, p.swap)
    LEFT JOIN rivals AS a
        ON a.run_id = y.run_id AND a.cell_id = y.cell_id AND a.node_id = y.node_id AND a.culprit = y.culprit
        AND a.part = y.part AND a.case_id = y.case_id AND a.repeat = y.repeat
    GROUP BY ALL
),

counting AS (
    SELECT
        *,
        -- Of `interface` no part diverges, so none is the only one.
        is_sole AND (rivals IS NOT NULL OR culprit = 'interface') AS is_shared,
        {
            'case_id': case_id,
            'says': concat_ws('; ', says, controls_say)
                || CASE WHEN controls_seen = 0 THEN wording.without_control(alone) ELSE '' END
        } AS told
    FROM tried
),

weighed AS (
    SELECT
        *,
        NOT is_shared AND effect AND NOT control_effect AND (NOT needed OR controls_seen = len(controls)) AS is_proof,
        NOT is_shared AND NOT effect AND culprit <> 'interface' AS is_doubt,
        NOT is_shared AND effect AND control_effect AS is_ambiguous
    FROM counting
),

decided AS (
    SELECT
        run_id, cell_id, node_id, culprit,
        coalesce(bool_or(is_proof), false) AS confirms, coalesce(bool_or(is_doubt), false) AS contradicts,
        arg_min(told, (case_id, controls_seen = 0, swap, part, controls)) FILTER (WHERE is_proof) AS proof,
        arg_min({'case_id': case_id, 'says': says}, (case_id, swap, part)) FILTER (WHERE is_doubt) AS doubt,
        arg_min(told, (case_id, swap, part, controls)) FILTER (WHERE is_ambiguous) AS ambiguous,
        arg_min({'case_id': case_id, 'rivals': rivals}, (case_id, swap, part)) FILTER (WHERE is_shared) AS shared,
        coalesce(bool_or(swap IS NOT NULL), false) AS has_rule,
        min(coalesce(error, control_error)) AS failure
    FROM weighed
    GROUP BY ALL
)

SELECT
    b.run_id, b.cell_id, b.node_id,
    CASE WHEN d.confirms THEN 'yes' WHEN d.contradicts THEN 'no' ELSE 'not_applicable' END AS confirmed,
    CASE WHEN d.confirms THEN d.proof.case_id WHEN d.contradicts THEN d.doubt.case_id END AS case_id,
    CASE
        WHEN d.confirms THEN wording.confirmed(d.proof.case_id, d.proof.says)
        WHEN d.contradicts THEN wording.not_confirmed(d.doubt.case_id, d.doubt.says)
        WHEN b.culprit IS NULL THEN wording.nobody_blamed()
        WHEN b.culprit = 'interface' THEN wording.interface_not_swapped()
        WHEN contains(b.culprit, '/') THEN wording.hidden_not_swapped()
        WHEN b.culprit NOT IN (SELECT part FROM sources.swap_rules) THEN wording.stage_not_swapped(b.culprit)
        WHEN d.run_id IS NULL THEN wording.no_symptom()
        WHEN d.ambiguous IS NOT NULL THEN wording.control_has_effect(d.ambiguous.case_id, d.ambiguous.says)
        WHEN d.shared IS NOT NULL THEN wording.rival_stages(d.shared.case_id, d.shared.rivals)
        WHEN NOT d.has_rule THEN wording.symptom_not_swapped(b.culprit)
        ELSE wording.swap_missing(d.failure)
    END AS told
FROM verdicts.blamed AS b
LEFT JOIN decided AS d ON d.run_id = b.run_id AND d.cell_id = b.cell_id AND d.node_id = b.node_id
WHERE b.verdict = 'divergent'
