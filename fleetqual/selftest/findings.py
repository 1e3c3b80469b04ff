"""What a self-test found: one finding for each fault or control, and their totals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.judging.rules import rules
from fleetqual.selftest.catalogue import Fault
from fleetqual.selftest.judged_cells import CaseKey, Cost, JudgedCell
from suites.exit_codes import DIVERGED, QUALIFIED, UNJUDGED


@dataclass
class Finding:
    """The result of one fault or control."""

    fault: Fault
    detected: bool = False
    culprit: str | None = None
    confirmed: str = "not_applicable"
    cases: list[Cost] = field(default_factory=list)
    """Cases that detect it, the cheapest first: suite, stage, case, seconds, tokens."""
    errors: list[str] = field(default_factory=list)
    explanation: str = ""
    cell: str | None = None
    run: str | None = None
    """The cell to explain, and its run."""
    weaker: dict[float, bool] = field(default_factory=dict)
    """Strength of a sweep → whether it was detected."""

    @property
    def placed(self) -> bool:
        """Whether the blamed stage, or one of a blamed set, is accepted by the catalogue."""
        blamed = (self.culprit or "").split("/")
        return self.detected and not set(blamed).isdisjoint(self.fault.stages)

    @property
    def in_set(self) -> bool:
        """Whether several stages were blamed together because the server hides them."""
        return "/" in (self.culprit or "")

    @property
    def smallest(self) -> float | None:
        """The weakest detected strength: the last detected one of the sweep."""
        seen = [by for by, detected in self.weaker.items() if detected]
        return seen[-1] if seen else None

    @property
    def as_json(self) -> dict[str, Any]:
        """The finding in ``fleetqual selftest --json``."""
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
        """Why a fault was missed or misplaced, or a control raised an alarm; None if neither."""
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
    costs: dict[CaseKey, Cost]
    """(suite, stage, case) → what it costs on an untouched cell."""
    clean: list[JudgedCell]
    """The untouched cells; they count as controls too."""
    rules: str = ""
    """Version of the rules that judged them."""

    @property
    def totals(self) -> dict[str, Any]:
        """Counts and rates; a rate of no faults is None."""
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
        """3 after errors; 0 if enough faults are detected and placed and nothing alarms; else 1."""
        totals = self.totals
        if totals["errors"]:
            return UNJUDGED
        enough = all(
            _reaches(totals[name], rules()[f"selftest_{name}"])
            for name in ("sensitivity", "placement")
        )
        return QUALIFIED if enough and not totals["false_alarms"] else DIVERGED

    def minimal(self) -> list[Cost]:
        """Return few, cheap cases that together detect every fault that single cases detect.

        Greedy weighted set cover: each step takes the case that detects the most new faults per
        second. The set takes at most ln(n) + 1 times as long as the best one.
        """
        shows: dict[CaseKey, set[str]] = {}
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

    def _seconds(self, key: CaseKey) -> float:
        """Return the seconds of a case; reading facts is not timed and counts as 1 ms."""
        return max(float(self.costs.get(key, {}).get("seconds") or 0.0), 0.001)


@dataclass(frozen=True)
class SelftestRun:
    """How a self-test was made."""

    command: str
    """The command, without absolute paths of one machine."""
    seconds: float
    held_out: bool = False
    not_run: Mapping[str, str] = field(default_factory=dict)
    """Fault that the matrix cannot show → the reason."""
    without_suites: Mapping[str, str] = field(default_factory=dict)
    """Fault that ran without some of its suites → the suites that the matrix does not name."""


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
