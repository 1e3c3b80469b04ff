"""From judged cells to findings: which faults were detected, at which stage, and at what cost.

A fault is detected when one of its cells diverges in a way in which the untouched cell of the same
engine, variant, pass and suite does not. It is placed when the blamed stage is one that its
catalogue accepts. A server hides stages: where several are blamed together, the fault is placed if
one of them is accepted.
"""

from collections.abc import Iterable, Sequence

from analysis.judging.judge import open_judged
from fleetqual.selftest.catalogue import Fault, id_and_strength
from fleetqual.selftest.findings import Assessment, Finding
from fleetqual.selftest.judged_cells import CaseKey, Cost, JudgedCell, cells_of, clean_costs
from runner.stored.store import Store
from suites.stages import CHAIN, STAGES

#: Order of blame when suites blame several stages: a wrong fact (``config``) and ``interface`` are
#: blamed only where no other stage is.
_BLAMED = (*(s for s in STAGES if s != "config"), "config", "interface")
_UNKNOWN = len(_BLAMED)
_NUMERIC = ("instrument", "logits", "state", "sampling")


def assess(results: str, run_ids: Sequence[str], faults: Iterable[Fault]) -> Assessment:
    """Judge the runs of a self-test and return the finding of every fault.

    Args:
        results: results root of the runs.
        run_ids: the runs.
        faults: what was injected, one for each strength of a sweep.
    """
    store = Store(results)
    cells: list[JudgedCell] = []
    costs: dict[CaseKey, Cost] = {}
    rules = set[str]()
    for run_id in run_ids:
        with open_judged(store, run_id) as catalog:
            cells += cells_of(catalog)
            costs |= clean_costs(catalog)
            rules |= {
                r["rules_version"] for r in catalog.rows("SELECT rules_version FROM sources.rules")
            }
    clean = {comparison_key(cell): cell for cell in cells if "+clean-" in cell.engine}
    found = [finding_of(fault, cells, clean) for fault in faults]
    whole = merge_sweeps(found)
    return Assessment(
        [f for f in whole if f.fault.kind == "fault"],
        [f for f in whole if f.fault.kind == "control"],
        costs,
        list(clean.values()),
        ", ".join(sorted(rules)),
    )


def comparison_key(cell: JudgedCell) -> tuple[str, ...]:
    kind = cell.engine.partition("+")[0]
    return cell.run_id, kind, cell.pass_, cell.variant.partition("+")[0], cell.suite


def finding_of(
    fault: Fault, cells: Sequence[JudgedCell], clean: dict[tuple[str, ...], JudgedCell]
) -> Finding:
    own = [cell for cell in cells if cell.engine == f"{fault.engine}+{fault.id}"]
    found = Finding(fault)
    if not own:
        found.errors.append("it was not run")
    blamed: list[tuple[int, JudgedCell, str]] = []
    for cell in own:
        if cell.error is not None:
            found.errors.append(f"{cell.suite}: {cell.error}")
            continue
        # A control is not compared with untouched cells: they could raise the same false alarm.
        base = clean.get(comparison_key(cell)) if fault.kind == "fault" else None
        new = {key: hit for key, hit in cell.hits.items() if _is_new(key, hit, base)}
        odd = cell.culprits - (base.culprits if base else frozenset())
        found.cases += [
            {"suite": cell.suite, "stage": stage, "case": case, **hit}
            for (stage, case), hit in new.items()
        ]
        usual = base is not None and base.verdict == "divergent"
        if cell.verdict == "divergent" and (not usual or odd or new):
            stage = _first(odd) or _first(_stages_of(new, cell)) or cell.culprit or ""
            if cell.culprit in odd:
                stage = cell.culprit
            blamed.append((_rank(stage), cell, stage))
        elif not found.explanation:
            found.explanation = f"{cell.suite}: {cell.verdict}: {cell.explanation}"
            found.cell, found.run = cell.cell_id, cell.run_id
    found.cases.sort(key=lambda case: (case["seconds"] is None, case["seconds"] or 0.0))
    if blamed:
        _, cell, stage = min(blamed, key=lambda item: item[0])
        found.detected, found.culprit = True, stage
        found.confirmed, found.explanation = cell.confirmed, cell.explanation
        found.cell, found.run = cell.cell_id, cell.run_id
    return found


def _is_new(key: tuple[str, str], hit: Cost, base: JudgedCell | None) -> bool:
    """Whether a case shows a difference that the untouched cell does not show.

    Numbers vary a little, so a different detail counts as new only for texts, ids and facts.
    """
    before = base.hits.get(key) if base is not None else None
    if before is None:
        return True
    return key[0] not in _NUMERIC and hit.get("detail") != before.get("detail")


def _first(stages: Iterable[str]) -> str | None:
    """Return the stage to blame; a chain that differs where no stage does is ``interface``."""
    given = {"interface" if stage == CHAIN else stage for stage in stages}
    known = [stage for stage in sorted(given) if _rank(stage) < _UNKNOWN]
    return min(known, key=_rank, default=None)


def _stages_of(hits: Iterable[tuple[str, str]], cell: JudgedCell) -> Iterable[str]:
    """Yield the stages of the hits; for cases of the chain, their sets of suspected stages."""
    for stage, case in hits:
        yield from (cell.sets.get(case) or {stage}) if stage == CHAIN else {stage}


def _rank(stage: str) -> int:
    """Return the rank of a stage in the order of blame; a set has the rank of its last stage.

    In a set, ``config`` does not count: it ranks with the stages that it changes.
    """
    ranks = {s: _BLAMED.index(s) if s in _BLAMED else _UNKNOWN for s in stage.split("/")}
    return max([r for s, r in ranks.items() if s != "config"] or ranks.values())


def merge_sweeps(findings: Sequence[Finding]) -> list[Finding]:
    """Return one finding for each fault; a sweep becomes one finding with all strengths."""
    whole: dict[str, Finding] = {}
    for finding in findings:
        name, by = id_and_strength(finding.fault.id)
        first = whole.setdefault(name, finding)
        if by is not None:
            first.weaker[by] = finding.detected
            if first is not finding:
                first.errors += finding.errors
    for name, finding in whole.items():
        finding.fault = finding.fault.model_copy(update={"id": name})
    return list(whole.values())
