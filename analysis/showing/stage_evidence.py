"""Evidence of the stages that need more than two texts side by side: swaps, draws, profiles."""

from typing import Any

from analysis.judging.catalog import Catalog
from analysis.showing.summary import count_reasons

#: Tokens of a draw shown beside what was expected of them.
_TOKENS = 6

_SWAPS = """
    SELECT s.case_id, s.swap, s.symptom, s.says, s.cures, s.infects, s.error
    FROM compared.swaps AS s
    INNER JOIN staging.tries AS t USING (run_id, cell_id, node_id, attempt)
    INNER JOIN sources.swap_kinds AS k USING (swap)
    WHERE t.judged AND s.run_id = ? AND s.cell_id = ? AND s.node_id IS NOT DISTINCT FROM ?
        AND (s.case_id = ? OR ? IS NULL)
    ORDER BY s.case_id, s.direction, s.swap
"""
_PROFILES = """
    SELECT p.probe, p.shape, p.position, p.border, p.positions, p.rise, p.share, p.told
    FROM numeric.profiles AS p
    INNER JOIN verdicts AS v USING (run_id, cell_id, node_id)
    WHERE v.stage = 'logits' AND v.case_group = '*' AND v.verdict IN ('divergent', 'expected')
        AND p.run_id = ? AND p.cell_id = ? AND p.node_id IS NOT DISTINCT FROM ?
    ORDER BY p.probe DESC
"""
_DRAWS = """
    SELECT
        d.case_id, d.repeat, q.asked, d.reading, d.n, d.used, d.chi2, d.degrees, d.p_value,
        d.impossible, d.effect, d.detectable, d.looks_like, r.draws_power::DOUBLE AS power
    FROM numeric.draw_tests AS d
    CROSS JOIN sources.rules AS r
    INNER JOIN staging.tries AS t USING (run_id, cell_id, node_id, attempt)
    LEFT JOIN staging.sampling_asked AS q
        ON q.run_id = d.run_id AND q.suite = ? AND q.case_id = d.case_id
    WHERE t.judged AND d.run_id = ? AND d.cell_id = ? AND d.node_id IS NOT DISTINCT FROM ?
        AND (d.case_id = ? OR ? IS NULL)
    ORDER BY d.p_value NULLS LAST, d.case_id, d.repeat
"""
_ODDS = """
    SELECT o.token_id, o.place, o.drawn, o.expected_draws, o.standing
    FROM numeric.draw_odds AS o
    INNER JOIN staging.tries AS t USING (run_id, cell_id, node_id, attempt)
    WHERE t.judged AND o.run_id = ? AND o.cell_id = ? AND o.node_id IS NOT DISTINCT FROM ?
        AND o.case_id = ? AND o.repeat = ? AND o.reading = ?
    ORDER BY abs(o.drawn - o.expected_draws) DESC, o.place
    LIMIT ?
"""
_SENTENCES = {
    "qualified": "Nothing to fix: every required part agrees with the truth.",
    "inconclusive": "Not decided: the evidence does not show a fault, and does not exclude one.",
    "error": "Nothing to judge: no attempt at this cell finished.",
    "not_observed": "Only timed: the other passes judge whether its answers are right.",
}


def sentence(
    cell: dict[str, Any], stages: list[dict[str, Any]], declared: list[dict[str, Any]]
) -> str:
    """Say in one plain sentence which part of a cell is to be fixed.

    Args:
        cell: its row of ``qualification``.
        stages: its verdicts over all cases, with ``does``.
        declared: its stages with declared differences.
    """
    culprit = cell["culprit"]
    if culprit == "instrument":
        return "The measurement itself is not repeatable: no number of this cell can be trusted."
    if cell["verdict"] == "qualified" and declared:
        return _with_exceptions(declared, stages)
    if cell["verdict"] != "divergent":
        return _SENTENCES[cell["verdict"]]
    if culprit is None:
        return "The answers are wrong, but not all parts that can cause this were observed."
    if culprit == "interface":
        return (
            "Each part is right alone, but the whole is wrong: check how the chat path calls "
            "its parts."
        )
    if "/" in culprit:
        *others, last = culprit.split("/")
        return f"The fault lies in {', '.join(others)} or {last}: this engine hides which of them."
    does = next((s["does"] for s in stages if s["stage"] == culprit), None)
    sure = {
        "yes": "; a swap of this part confirms it",
        "no": "; a swap of this part does not confirm it",
    }
    what = f", the part that {does}" if does else ""
    return f"The fault lies in {culprit}{what}{sure.get(cell['confirmed'], '')}."


def _with_exceptions(declared: list[dict[str, Any]], stages: list[dict[str, Any]]) -> str:
    """Say how many outputs of a qualified cell differ as declared, and where."""
    count = count_reasons(declared)
    where = ", ".join(
        f"{s['stage']} ({s['mismatches']} of {s['n']} differ)"
        for s in stages
        if s["verdict"] == "expected"
    )
    known = f"{count} declared difference{'' if count == 1 else 's'}"
    return f"No new difference: it agrees with the truth, except for {known} at {where}."


def stage_evidence(catalog: Catalog, cell: dict[str, Any], case: str | None) -> dict[str, Any]:
    """Return swaps of the chain, the profiles of a divergent ``logits``, and draws that failed.

    Args:
        catalog: an open catalog with the run.
        cell: its row of ``qualification``.
        case: only this one, also where its draws passed; all when None.
    """
    keys = [cell["run_id"], cell["cell_id"], cell["node_id"]]
    draws = catalog.rows(_DRAWS, [cell["suite"], *keys, case, case])
    blamed = catalog.rows(
        "SELECT DISTINCT case_id FROM divergences WHERE stage = 'sampling' AND run_id = ? "
        "AND cell_id = ? AND node_id IS NOT DISTINCT FROM ?",
        keys,
    )
    failed = {row["case_id"] for row in blamed}
    shown = [d for d in draws if case or d["case_id"] in failed]
    return {
        "swaps": catalog.rows(_SWAPS, [*keys, case, case]),
        "profiles": catalog.rows(_PROFILES, keys),
        "draws": [
            {
                **d,
                "tokens": catalog.rows(
                    _ODDS, [*keys, d["case_id"], d["repeat"], d["reading"], _TOKENS]
                ),
            }
            for d in shown
        ],
    }
