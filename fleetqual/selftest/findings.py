"""What a self-test shows: which injected faults were seen, where they were placed, at what cost.

A fault is detected when one of its cells diverges in a way in which the untouched cell of the same
engine, variant, pass and suite does not; it is placed when the stage that is blamed is one of those
that its catalogue accepts. A server hides stages: where several are blamed together it is placed,
as far as can be seen, when one of them is accepted.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.judging.judge import open_judged
from fleetqual.selftest.catalogue import Fault, id_and_strength
from fleetqual.selftest.judged_cells import Case, Cell, Cost, cells_of, clean_costs
from runner.stored.store import Store
from suites.stages import CHAIN, STAGES

#: In this order stages are to blame when suites blame several: a fact that was loaded wrongly and
#: the way between the parts only where no part itself is blamed.
_BLAMED = (*(s for s in STAGES if s != "config"), "config", "interface")
_UNKNOWN = len(_BLAMED)
_NUMERIC = ("instrument", "logits", "state", "sampling")


@dataclass
class Finding:
    """What became of one fault or control."""

    fault: Fault
    detected: bool = False
    culprit: str | None = None
    confirmed: str = "not_applicable"
    cases: list[Cost] = field(default_factory=list)
    """Cases that show it, the cheapest first: suite, stage, case, seconds, tokens."""
    errors: list[str] = field(default_factory=list)
    explanation: str = ""
    cell: str | None = None
    run: str | None = None
    """The cell to explain, and its run."""
    weaker: dict[float, bool] = field(default_factory=dict)
    """Strength of a sweep → whether it was detected."""

    @property
    def placed(self) -> bool:
        """Whether the blamed stage, or one of a blamed set, is one at which it may be placed."""
        blamed = (self.culprit or "").split("/")
        return self.detected and not set(blamed).isdisjoint(self.fault.stages)

    @property
    def in_set(self) -> bool:
        """Whether stages were blamed together, because they are hidden."""
        return "/" in (self.culprit or "")

    @property
    def smallest(self) -> float | None:
        """The strength nearest to harmless (the last of the sweep) that was detected."""
        seen = [by for by, detected in self.weaker.items() if detected]
        return seen[-1] if seen else None

    @property
    def as_json(self) -> dict[str, Any]:
        """The finding as ``fleetqual selftest --json`` tells it."""
        cheapest = self.cases[0] if self.cases else {}
        return {
            "id": self.fault.id,
            "incident": self.fault.incident,
            "engine": self.fault.engine,
            "stages": list(self.fault.stages),
            "depth": self.fault.inject.depth,
            "detected": self.detected,
            "culprit": self.culprit,
            "placed": self.placed,
            "in_set": self.in_set,
            "confirmed": self.confirmed,
            "cases": [case["case"] for case in self.cases],
            "cheapest": cheapest.get("case"),
            "seconds": cheapest.get("seconds"),
            "tokens": cheapest.get("tokens"),
            "smallest_strength": self.smallest,
            "strengths": {f"{by:g}": seen for by, seen in self.weaker.items()},
            "cell": self.cell,
            "run": self.run,
            "reason": self.reason,
            "errors": self.errors,
        }

    @property
    def reason(self) -> str | None:
        """Why a fault was missed or misplaced, or what alarmed at a control; None if neither."""
        if self.errors:
            return self.errors[0]
        if self.fault.kind == "control":
            return self.explanation if self.detected else None
        if not self.detected:
            return self.explanation or "no cell was judged"
        if not self.placed:
            accepted = " or ".join(self.fault.stages)
            return f"placed at {self.culprit}, not at {accepted}: {self.explanation}"
        return None


@dataclass(frozen=True)
class Assessment:
    """All findings of a self-test."""

    faults: list[Finding]
    controls: list[Finding]
    costs: dict[Case, Cost]
    """(suite, stage, case) → what it costs on an untouched cell."""
    clean: list[Cell]
    """The untouched cells, which are controls too."""
    rules: str = ""
    """Version of the rules that judged them."""

    @property
    def totals(self) -> dict[str, Any]:
        """Counts and rates; those over nothing are None."""
        depths = {"wrap": "wrap", "proxy": "gateways"}
        groups: dict[str, list[Finding]] = {"files_and_options": [], "wrap": [], "gateways": []}
        for finding in self.faults:
            groups[depths.get(finding.fault.inject.depth, "files_and_options")].append(finding)
        alarms = [f.fault.id for f in self.controls if f.detected]
        alarms += [f"{c.engine} ({c.suite})" for c in self.clean if c.verdict == "divergent"]
        return {
            **_rates(self.faults),
            "false_alarms": len(alarms),
            "controls": len(self.controls) + len(self.clean),
            "alarmed": alarms,
            "errors": sum(bool(f.errors) for f in (*self.faults, *self.controls)),
            **{name: _rates(findings) for name, findings in groups.items()},
        }

    @property
    def exit_code(self) -> int:
        """3 if cells ended in errors; 0 if enough is seen and placed and nothing alarms; else 1."""
        totals = self.totals
        if totals["errors"]:
            return 3
        enough = _reaches(totals["sensitivity"], 0.95) and _reaches(totals["placement"], 0.90)
        return 0 if enough and not totals["false_alarms"] else 1

    def minimal(self) -> list[Cost]:
        """Return few and cheap cases that still detect every fault that any case detects alone.

        Greedy weighted set cover: next comes the case that detects the most faults per second which
        no chosen one does, so the set is at most ln(n) + 1 times as dear as the best.
        """
        shows: dict[Case, set[str]] = {}
        for finding in self.faults:
            for case in finding.cases:
                key = (case["suite"], case["stage"], case["case"])
                shows.setdefault(key, set()).add(finding.fault.id)
        left = set().union(*shows.values()) if shows else set()
        chosen = []
        while left:
            best = max(shows, key=lambda k: (len(shows[k] & left) / self._seconds(k), k))
            new, seconds = shows[best] & left, self._seconds(best)
            chosen.append(
                {
                    "suite": best[0],
                    "stage": best[1],
                    "case": best[2],
                    "seconds": seconds,
                    "detects": sorted(new),
                    "per_second": len(shows[best]) / seconds,
                }
            )
            left -= new
        return chosen

    def _seconds(self, key: Case) -> float:
        """Return what a case costs; facts and tensors are read in a moment and not timed."""
        return max(float(self.costs.get(key, {}).get("seconds") or 0.0), 0.001)


def assess(results: str, run_ids: Sequence[str], faults: Iterable[Fault]) -> Assessment:
    """Judge the runs of a self-test and say what became of every fault.

    Args:
        results: results root of the runs.
        run_ids: the runs.
        faults: what was injected, one for each strength of a sweep.
    """
    store = Store(results)
    cells: list[Cell] = []
    costs: dict[Case, Cost] = {}
    rules = set[str]()
    for run_id in run_ids:
        with open_judged(store, run_id) as catalog:
            cells += cells_of(catalog)
            costs |= clean_costs(catalog)
            rules |= {
                r["rules_version"] for r in catalog.rows("SELECT rules_version FROM sources.rules")
            }
    clean = {_place(cell): cell for cell in cells if "+clean-" in cell.engine}
    found = [_finding(fault, cells, clean) for fault in faults]
    whole = _swept(found)
    return Assessment(
        [f for f in whole if f.fault.kind == "fault"],
        [f for f in whole if f.fault.kind == "control"],
        costs,
        list(clean.values()),
        ", ".join(sorted(rules)),
    )


def _place(cell: Cell) -> tuple[str, ...]:
    kind = cell.engine.partition("+")[0]
    return cell.run_id, kind, cell.pass_, cell.variant.partition("+")[0], cell.suite


def _finding(fault: Fault, cells: Sequence[Cell], clean: dict[tuple[str, ...], Cell]) -> Finding:
    own = [cell for cell in cells if cell.engine == f"{fault.engine}+{fault.id}"]
    found = Finding(fault)
    if not own:
        found.errors.append("it was not run")
    blamed: list[tuple[int, Cell, str]] = []
    for cell in own:
        if cell.error is not None:
            found.errors.append(f"{cell.suite}: {cell.error}")
            continue
        # A control is measured against nothing: an alarm at untouched cells too would hide in it.
        base = clean.get(_place(cell)) if fault.kind == "fault" else None
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


def _is_new(key: tuple[str, str], hit: Cost, base: Cell | None) -> bool:
    """Whether a case shows what it does not show on the untouched cell.

    Numbers vary a little, so only of texts, ids and facts another difference is a new one.
    """
    before = base.hits.get(key) if base is not None else None
    if before is None:
        return True
    return key[0] not in _NUMERIC and hit.get("detail") != before.get("detail")


def _first(stages: Iterable[str]) -> str | None:
    """Return the stage to blame; a chain that differs where no part does is the way between."""
    given = {"interface" if stage == CHAIN else stage for stage in stages}
    known = [stage for stage in sorted(given) if _rank(stage) < _UNKNOWN]
    return min(known, key=_rank, default=None)


def _stages_of(hits: Iterable[tuple[str, str]], cell: Cell) -> Iterable[str]:
    """Yield the stages of which hits speak: of the chain's cases, the sets that they point at."""
    for stage, case in hits:
        yield from (cell.sets.get(case) or {stage}) if stage == CHAIN else {stage}


def _rank(stage: str) -> int:
    """Return where a stage stands among those to blame; a set stands where its last one does.

    In a set, ``config`` stands where the stages are that it spoils.
    """
    ranks = {s: _BLAMED.index(s) if s in _BLAMED else _UNKNOWN for s in stage.split("/")}
    return max([r for s, r in ranks.items() if s != "config"] or ranks.values())


def _swept(findings: Sequence[Finding]) -> list[Finding]:
    """Return one finding a fault: that of a sweep's first strength, and what became of the rest."""
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


def _rates(findings: Sequence[Finding]) -> dict[str, Any]:
    detected = [f for f in findings if f.detected]
    placed = sum(f.placed for f in detected)
    return {
        "faults": len(findings),
        "detected": len(detected),
        "sensitivity": len(detected) / len(findings) if findings else None,
        "placed": placed,
        "placed_in_sets": sum(f.placed and f.in_set for f in detected),
        "placement": placed / len(detected) if detected else None,
    }


def _reaches(rate: float | None, least: float) -> bool:
    return rate is None or rate >= least
