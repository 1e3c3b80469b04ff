"""One sentence about a run: what agrees or differs, where, and with how many exceptions."""

import json
from typing import Any

from analysis.judging.catalog import Catalog
from analysis.showing.summary import Summary
from runner.stored.canonical import UNREADABLE

#: Names of engines as their makers write them, where the entry has no name of its own.
_ENGINES = {"llama_cpp": "llama.cpp", "mlx": "MLX", "openai": "the server", "vllm": "vLLM"}
_WORST = ("divergent", "error", "inconclusive", "qualified", "not_observed")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Verdict → what one cell with it does, and what several do.
_STATES = {
    "divergent": ("differs", "differ"),
    "error": ("did not finish", "did not finish"),
    "inconclusive": ("could not be judged", "could not be judged"),
    "qualified": ("agrees", "agree"),
    "not_observed": ("was only timed", "were only timed"),
}
#: Characters of a detail that comes from an engine.
_MOST = 140

_FACTS = """
    SELECT cell_id, node_id, substr(case_id, 8) AS fact, expected, seen, detail
    FROM divergences
    WHERE stage = 'config' AND kind = 'model' AND NOT is_expected AND run_id = ?
    ORDER BY case_id
"""


def headline(catalog: Catalog, summary: Summary) -> str:
    """Return the sentence of a run: of its only cell, or of all cells with the worst first."""
    cells = sorted(summary.qualification, key=lambda row: _WORST.index(row["verdict"]))
    if not cells:
        return "No cell was judged: nothing ran, or the evidence is lost."
    facts = catalog.rows(_FACTS, [summary.run_id])
    worst = cells[0]
    told = f"{_name(worst)}: {_says(summary, worst, facts)}"
    if len(cells) > 1:
        alike = sum(row["verdict"] == worst["verdict"] for row in cells)
        one, several = _STATES[worst["verdict"]]
        many = f"All {len(cells)}" if alike == len(cells) else f"{alike} of {len(cells)}"
        told = f"{many} cells {one if alike == 1 else several}. The first one: {told}"
    gone = len(summary.unexpected_passes)
    if gone:
        plural = "" if gone == 1 else "s"
        told += f"; {gone} declared difference{plural} did not occur"
    return told + "."


def _name(row: dict[str, Any]) -> str:
    engine = _ENGINES.get(row["engine"], row["engine"])
    server = " server" if row["serving"] == "managed" and row["engine"] in _ENGINES else ""
    version = f" {row['engine_version']}" if row["engine_version"] not in (None, "unknown") else ""
    return f"{row['model']} {row['variant']} on {engine}{server}{version}"


def _says(summary: Summary, row: dict[str, Any], facts: list[dict[str, Any]]) -> str:
    own = [v for v in summary.of_cell(row, summary.verdicts) if v["case_group"] == "*"]
    if row["verdict"] == "divergent":
        return _differs(row, own, summary.of_cell(row, facts))
    if row["verdict"] == "error":
        return f"did not finish: {_short(row['explanation'].removeprefix('nothing to judge: '))}"
    if row["verdict"] == "not_observed":
        return "was only timed"
    if row["verdict"] == "inconclusive":
        open_ = [v for v in own if v["stage"] in row["required"].split(", ") and not _agrees(v)]
        reasons = [f"{v['stage']} ({_short(v['reason'] or v['verdict'])})" for v in open_]
        if reasons:
            agreeing = sum(_agrees(v) for v in own if v["stage"] != "chain")
            more = f" and {len(reasons) - 2} more" if len(reasons) > 2 else ""
            told = f"{', '.join(reasons[:2])}{more}"
            return (
                f"agrees at {agreeing} of {len(own) - 1} stages, and could not be judged at {told}"
            )
        return _short(row["explanation"])
    declared = summary.declared_of(row)
    plural = "" if declared == 1 else "s"
    return _agreement(own) + (f", with {declared} declared exception{plural}" if declared else "")


def _differs(row: dict[str, Any], own: list[dict[str, Any]], facts: list[dict[str, Any]]) -> str:
    culprit = row["culprit"]
    if culprit is None:
        return "differs, and it is not known at which stage"
    at = f"differs at {culprit}"
    place = "differs although each stage agrees" if culprit == "interface" else at
    fact = next((f for f in facts if _is_told_of(f, row)), None)
    if fact is not None:
        return f"{place}: {_fact(fact)}"
    verdict = next((v for v in own if v["stage"] == culprit.split("/")[-1]), None)
    if verdict is None or not verdict["reason"] or culprit == "logits":
        return f"{place}: {_short(row['explanation'].removeprefix(f'{culprit}: '))}"
    first = f", first {verdict['first_case']}" if verdict["first_case"] else ""
    return f"{place}: {_short(verdict['reason'])}{first}"


def _is_told_of(fact: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a fact is the culprit, or what explains it."""
    return row["culprit"] == "config" or fact["detail"] in row["explanation"]


def _fact(fact: dict[str, Any]) -> str:
    """Return a differing fact in words: how many end tokens are extra or missing, or its detail."""
    if fact["fact"] != "eos_ids":
        return _short(fact["detail"])
    try:
        seen, right = set(json.loads(fact["seen"])), set(json.loads(fact["expected"]))
    except UNREADABLE:
        return _short(fact["detail"])
    told = [
        f"{_count(len(ids))} {kind} end token{'' if len(ids) == 1 else 's'}"
        for kind, ids in (("extra", seen - right), ("missing", right - seen))
        if ids
    ]
    return " and ".join(told) or _short(fact["detail"])


def _agreement(own: list[dict[str, Any]]) -> str:
    """Return at how many stages a cell agrees, and which others were not seen or not decided."""
    stages = [v for v in own if v["stage"] != "chain"]
    unseen = [v["stage"] for v in stages if v["verdict"] == "not_observed"]
    undecided = [v["stage"] for v in stages if not _agrees(v) and v["stage"] not in unseen]
    agreeing = len(stages) - len(unseen) - len(undecided)
    told = f"agrees at {agreeing} of {len(stages)} stages"
    others = [
        f"{what}: {', '.join(names)}"
        for what, names in (("not seen", unseen), ("not decided", undecided))
        if names
    ]
    return told + (f" ({'; '.join(others)})" if others else "")


def _agrees(verdict: dict[str, Any]) -> bool:
    return verdict["verdict"] in ("qualified", "expected")


def _count(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST else line[: _MOST - 1] + "…"
