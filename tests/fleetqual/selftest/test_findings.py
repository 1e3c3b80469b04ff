"""What a self-test concludes from cells: detection beyond the untouched cell, place, cost."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fleetqual.selftest.assess import comparison_key, finding_of, merge_sweeps
from fleetqual.selftest.catalogue import Fault
from fleetqual.selftest.findings import Assessment, Finding, SelftestRun
from fleetqual.selftest.judged_cells import JudgedCell
from fleetqual.selftest.page import page, print_selftest


def fault(name: str = "scaled", **keys: Any) -> Fault:
    body = {
        "id": name.partition("@")[0],
        "incident": "I051",
        "says": "One matrix is scaled.",
        "stages": ["weights"],
        "engine": "llama_cpp",
        "inject": {"options": {}},
        **keys,
    }
    return Fault.model_validate(body).model_copy(update={"id": name})


def cell(engine: str, suite: str = "smoke", **keys: Any) -> JudgedCell:
    values: dict[str, Any] = {
        "run_id": "r",
        "cell_id": f"c1:{engine}-{suite}",
        "suite": suite,
        "variant": "f32",
        "engine": f"llama_cpp+{engine}",
        "pass_": "structure",
        "verdict": "qualified",
        "culprit": None,
        "culprits": frozenset(),
        "confirmed": "not_applicable",
        "explanation": "all agrees",
        "hits": {},
        "error": None,
        **keys,
    }
    return JudgedCell(**values)


def diverging(engine: str, *stages: str, suite: str = "smoke", cases: int = 1) -> JudgedCell:
    hits = {
        (stage, f"{stage}/{n}"): {"seconds": 0.1 * (n + 1), "tokens": 10}
        for stage in stages
        for n in range(cases)
    }
    return cell(
        engine,
        suite,
        verdict="divergent",
        culprit=stages[0],
        culprits=frozenset(stages),
        confirmed="yes",
        explanation=f"{stages[0]} differs",
        hits=hits,
    )


def found(one: Fault, *cells: JudgedCell) -> Finding:
    return finding_of(one, cells, {comparison_key(c): c for c in cells if "+clean-" in c.engine})


def test_a_cell_that_diverges_where_the_untouched_one_does_not_is_a_detection() -> None:
    finding = found(fault(), diverging("scaled", "weights", cases=2), cell("clean-structure"))
    assert (finding.detected, finding.culprit, finding.placed) == (True, "weights", True)
    assert finding.confirmed == "yes"
    assert [case["case"] for case in finding.cases] == ["weights/0", "weights/1"]


def test_what_the_untouched_cell_shows_too_is_no_detection() -> None:
    clean = diverging("clean-structure", "weights", cases=2)
    finding = found(fault(), diverging("scaled", "weights", cases=2), clean)
    assert not finding.detected
    assert not finding.cases


def test_what_comes_on_top_of_the_untouched_cell_s_own_is_blamed() -> None:
    clean = diverging("clean-structure", "tokenize")
    faulty = diverging("scaled", "tokenize", "logits")
    finding = found(fault(), faulty, clean)
    assert (finding.detected, finding.culprit, finding.placed) == (True, "logits", False)
    assert [case["case"] for case in finding.cases] == ["logits/0"]
    assert finding.reason is not None
    assert "placed at logits, not at weights" in finding.reason


@pytest.mark.parametrize(
    ("blamed", "culprit"),
    [
        (("config", "sampling"), "sampling"),
        (("interface", "sampling"), "sampling"),
        (("stop", "weights"), "weights"),
        (("interface", "config"), "config"),
    ],
)
def test_of_several_suites_the_earliest_part_is_blamed(
    blamed: tuple[str, str], culprit: str
) -> None:
    cells = [diverging("scaled", stage, suite=f"s{n}") for n, stage in enumerate(blamed)]
    assert found(fault(), *cells).culprit == culprit


def test_a_cell_that_failed_is_an_error_and_never_a_detection() -> None:
    failed = cell("scaled", verdict="error", error="crashed: SIGSEGV")
    finding = found(fault(), failed, cell("clean-structure"))
    assert not finding.detected
    assert finding.errors == ["smoke: crashed: SIGSEGV"]
    assert Assessment([finding], [], {}, []).exit_code == 3
    assert found(fault()).errors == ["it was not run"]


def test_an_untouched_cell_that_diverges_is_a_false_alarm_and_hides_no_control() -> None:
    clean = diverging("clean-structure", "logits")
    control = fault("halved", kind="control", stages=[])
    alarmed = found(control, diverging("halved", "logits"), clean)
    assert alarmed.detected
    totals = Assessment([], [alarmed], {}, [clean]).totals
    assert (totals["controls"], totals["false_alarms"]) == (2, 2)
    assert "llama_cpp+clean-structure (smoke)" in totals["alarmed"]


def test_a_sweep_counts_once_and_tells_its_smallest_strength() -> None:
    cells = [diverging("scaled@0.1", "weights"), cell("scaled@0.01"), cell("clean-structure")]
    strengths = [fault(f"scaled@{by}") for by in ("0.1", "0.01")]
    (whole,) = merge_sweeps([found(one, *cells) for one in strengths])
    assert (whole.fault.id, whole.detected, whole.smallest) == ("scaled", True, 0.1)
    assert whole.weaker == {0.1: True, 0.01: False}


def assessment(detected: int, missed: int, alarms: int = 0) -> Assessment:
    seen = [
        found(fault(f"f{n}"), diverging(f"f{n}", "weights"), cell("clean-structure"))
        for n in range(detected)
    ]
    unseen = [found(fault(f"m{n}"), cell(f"m{n}")) for n in range(missed)]
    controls = [
        found(fault(f"c{n}", kind="control", stages=[]), diverging(f"c{n}", "logits"))
        for n in range(alarms)
    ]
    return Assessment(seen + unseen, controls, {}, [])


@pytest.mark.parametrize(
    ("detected", "missed", "alarms", "code"),
    [(19, 1, 0, 0), (18, 2, 0, 1), (20, 0, 1, 1), (0, 0, 0, 0)],
)
def test_the_exit_code_wants_nearly_all_and_no_alarm(
    detected: int, missed: int, alarms: int, code: int
) -> None:
    found = assessment(detected, missed, alarms)
    assert found.exit_code == code
    assert found.totals["false_alarms"] == alarms
    assert found.totals["detected"] == detected


def test_the_smallest_set_of_cases_detects_everything_cheaply() -> None:
    dear = {("logits", "dear"): {"seconds": 9.0}}
    both = {**dear, ("logits", "cheap"): {"seconds": 1.0}}
    cells = [
        cell("f0", verdict="divergent", culprit="logits", hits=both),
        cell("f1", verdict="divergent", culprit="logits", hits=both),
        cell("f2", verdict="divergent", culprit="logits", hits=dear),
    ]
    findings = [found(fault(f"f{n}"), cells[n]) for n in range(3)]
    costs = {("smoke", "logits", "dear"): {"seconds": 9.0}}
    costs[("smoke", "logits", "cheap")] = {"seconds": 1.0}
    chosen = Assessment(findings, [], costs, []).minimal()
    assert [(c["case"], c["detects"]) for c in chosen] == [
        ("cheap", ["f0", "f1"]),
        ("dear", ["f2"]),
    ]


MADE = SelftestRun(
    command="fleetqual selftest -o page.md",
    seconds=130,
    not_run={"behind-a": "the matrix names no a", "behind-a-too": "the matrix names no a"},
    without_suites={"f0": "state, sampling"},
)


def test_the_page_says_how_it_is_made_and_what_was_not_run() -> None:
    text = page(replace(assessment(2, 1, alarms=1), rules="r9"), MADE)
    assert "Made by `fleetqual selftest -o page.md` in 2 minutes; rules r9." in text
    assert "- 2 faults not run: the matrix names no a\n" in text
    assert "- 1 fault run without state, sampling, which the matrix does not name" in text
    assert "held-out" not in text
    assert "held-out" in page(assessment(1, 0), replace(MADE, held_out=True)).splitlines()[0]


def test_controls_are_named_ones_and_untouched_cells() -> None:
    found = replace(assessment(1, 0, alarms=2), clean=[cell("clean-structure")])
    told = "2 alarms of 3 (named controls: 2, untouched cells: 1)"
    assert f"- benign controls: {told}" in page(found, MADE)


def test_json_names_what_was_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    print_selftest(assessment(1, 0), MADE, "results", as_json=True, minimal=False)
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"totals", "faults", "not_run"}
    assert told["not_run"] == ["behind-a", "behind-a-too"]


def test_the_page_tells_every_fault_and_every_miss() -> None:
    text = page(assessment(2, 1, alarms=1), MADE)
    assert "all faults: 2 of 3 detected, 2 of 2 placed at an accepted stage" in text
    assert "| f1 | I051 | options | llama_cpp | yes | weights | yes |" in text
    assert "- `m0`: smoke: qualified: all agrees" in text
    assert "| c0 | I051 | llama_cpp | yes |" in text


def test_a_fault_behind_a_server_is_placed_where_its_stage_is_among_the_suspects() -> None:
    """As far as can be seen; what the untouched server shows anyway is not what was injected."""
    usual = {"verdict": "divergent", "culprit": "parse", "culprits": frozenset({"parse"})}
    shown = {("chain", "chain/call"): {"seconds": 0.1, "tokens": 0, "detail": "raw calls"}}
    sets = {"chain/call": frozenset({"parse"})}
    clean = cell("clean-1", **usual, hits=shown, sets=sets)
    new = {("chain", "chain/name"): {"seconds": 0.1, "tokens": 0, "detail": "other words"}}
    later = {"chain/name": frozenset({"logits/state/sampling"})}
    hit = cell("scaled", **usual, hits={**shown, **new}, sets={**sets, **later})
    place = {comparison_key(clean): clean}
    found = finding_of(fault(stages=["sampling"]), [clean, hit], place)
    assert (found.culprit, found.placed, found.in_set) == ("logits/state/sampling", True, True)
    wrong = finding_of(fault(stages=["template"]), [clean, hit], place)
    assert (wrong.detected, wrong.placed) == (True, False)
    totals = Assessment([found, wrong], [], {}, []).totals
    assert (totals["placed"], totals["placed_in_sets"]) == (1, 1)
    assert "1 among stages that the server hides" in page(Assessment([found], [], {}, []), MADE)


def test_the_earliest_of_several_sets_is_blamed() -> None:
    sets = {"chain/a": frozenset({"stop/parse"}), "chain/b": frozenset({"template/tokenize"})}
    hits = {("chain", case): {"seconds": 0.1, "tokens": 0} for case in sets}
    found_cell = cell(
        "scaled",
        verdict="divergent",
        culprit="stop",
        culprits=frozenset({"stop/parse", "template/tokenize"}),
        hits=hits,
        sets=sets,
    )
    assert finding_of(fault(), [found_cell], {}).culprit == "template/tokenize"
