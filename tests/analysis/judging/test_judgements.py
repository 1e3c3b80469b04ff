"""The stored judgement: when a run is judged again, and which judgement counts."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from analysis.judging import judge
from analysis.judging.catalog import open_catalog
from analysis.judging.judge import append_judgement, open_judged
from analysis.showing.check import check, print_verdicts
from analysis.showing.report import write_page
from runner.stored.store import Store
from tests.analysis.handmade import RUN, Bench

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture) -> str:
    return capsys.readouterr().out


def judge_again(results: str, run_id: str) -> None:
    """Append a judgement also where the newest one still holds."""
    store = Store(results)
    with open_catalog(store, [run_id], judging=[run_id]) as catalog:
        append_judgement(store, catalog, run_id)


def judgements(bench: Bench) -> list[str]:
    return sorted(p.name for p in (bench.root / "runs" / RUN / "verdicts").glob("*.parquet"))


def test_a_run_is_judged_once_and_again_only_when_something_changed(bench: Bench) -> None:
    bench.write()
    check(bench.results)
    first = judgements(bench)
    check(bench.results)
    assert judgements(bench) == first
    bench.attempt.change("stop", "stop/eos", text="other")
    bench.write()
    assert check(bench.results) == 1
    assert len(judgements(bench)) == 2
    assert judgements(bench)[0] == first[0]


def test_new_references_are_a_reason_to_judge_again(bench: Bench) -> None:
    bench.reference_cases = ()
    bench.write()
    assert check(bench.results) == 3
    bench.reference_cases = Bench(bench.root).reference_cases
    bench.write()
    assert check(bench.results) == 0


@pytest.mark.parametrize(
    ("changed", "judgements_made"),
    [
        ("showing/report.py", 1),
        ("showing/report.html.j2", 1),
        ("judging/floors.py", 2),
        ("sql_functions/differences.py", 2),
        ("views/sources/rules.sql", 2),
    ],
)
def test_only_changed_judging_code_is_a_reason_to_judge_again(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
    judgements_made: int,
) -> None:
    code = tmp_path / "analysis"
    shutil.copytree(judge.ANALYSIS, code)
    monkeypatch.setattr(judge, "ANALYSIS", code)
    bench.write()
    check(bench.results)
    check(bench.results)
    assert len(judgements(bench)) == 1
    with (code / changed).open("a") as file:
        file.write("\n")
    check(bench.results)
    assert len(judgements(bench)) == judgements_made


def test_verdicts_and_page_are_made_from_one_catalog(
    bench: Bench, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write()
    store = Store(bench.results)
    with open_judged(store, RUN) as catalog:
        monkeypatch.setattr(judge, "open_catalog", None)
        assert print_verdicts(store, catalog, RUN) == 0
        page = write_page(store, catalog, RUN)
    assert RUN in said(capsys)
    assert RUN in page.read_text(encoding="utf-8")
    assert len(judgements(bench)) == 1


def test_readers_take_the_newest_judgement(bench: Bench, capsys: Capture) -> None:
    bench.write()
    judge_again(bench.results, RUN)
    judge_again(bench.results, RUN)
    with open_catalog(Store(bench.results), [RUN]) as catalog:
        assert len(catalog.rows("SELECT * FROM qualification")) == 1
    assert len(judgements(bench)) == 2


def test_a_damaged_judgement_is_set_aside_and_made_again(bench: Bench, capsys: Capture) -> None:
    bench.write()
    judge_again(bench.results, RUN)
    (path,) = (bench.root / "runs" / RUN / "verdicts").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    # Nothing is lost, so it is named once and keeps no run from being qualified.
    assert check(bench.results, as_json=True, junit=bench.root / "junit.xml") == 0
    found = json.loads(said(capsys))
    assert [q["file"] for q in found["quarantined"]] == [f"verdicts/{path.name}"]
    assert found["qualification"][0]["verdict"] == "qualified"
    assert Xml.parse(bench.root / "junit.xml").getroot().get("errors") == "0"
    assert check(bench.results, as_json=True) == 0
    assert json.loads(said(capsys))["quarantined"] == []


def test_changes_tell_what_a_run_changed_in_its_series(bench: Bench) -> None:
    bench.write()
    judge_again(bench.results, RUN)
    later = Bench(bench.root, run_id="20260508-120000-abcd")
    later.attempt.engine_version = "0.4.0"
    later.attempt.change("stop", "stop/eos", text="other")
    later.write()
    judge_again(bench.results, later.run_id)
    with open_catalog(Store(bench.results), [RUN, later.run_id]) as catalog:
        rows = catalog.rows("SELECT * FROM changes WHERE stage = 'stop'")
        quick = catalog.rows("SELECT * FROM performance")
    (row,) = rows
    assert (row["previous_verdict"], row["verdict"]) == ("qualified", "divergent")
    assert (row["previous_engine_version"], row["engine_version"]) == ("0.3.16", "0.4.0")
    assert [(q["run_id"] == RUN, q["rankable"]) for q in quick] == [(True, True), (False, False)]
    assert quick[0]["itl_p50_s"] == pytest.approx(0.02)
