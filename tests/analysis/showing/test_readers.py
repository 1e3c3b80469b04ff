"""What people read: check, JUnit, explain, report, judgements, floors."""

import datetime as dt
import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from analysis.judging.catalog import choose_run
from analysis.judging.judgement_tables import QualificationRow, VerdictRow
from analysis.showing.check import check
from analysis.showing.explain import explain
from analysis.showing.report import write_report
from runner.stored.store import Store
from runner.stored.tables import RunRow, column_name
from suites.errors import UserError
from tests.analysis.handmade import NOW, REQUIRED, RUN, Attempt, Bench, Cell
from tests.analysis.handmade_traces import Trace

EVIL = "<script>alert(1)</script>\x1b[31m[bold]\x00\u202e"
Capture = pytest.CaptureFixture[str]
IDENTITY = (
    "run_id cell_id series_id suite model variant engine engine_version engine_build serving "
    "backend pass compute_dtype kv_dtype hardware node_id device_count driver attempt"
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A divergent, a crashed, an inconclusive, a skipped and a clean cell; tests leave it as is."""
    bench = Bench(tmp_path_factory.mktemp("mixed"))
    bad = Cell("c1:bad")
    bad.only.change("template", "template/plain", prompt_text=EVIL)
    bad.only.change("tokenize", "tokenize/nfd", prompt_ids=[1, 7, 99])
    bad.only.change("detokenize", "detokenize/emoji", "whole", text="cafe\u0301")
    bad.only.fact("rope_theta", 10000.0)
    bad.only.logits(0.3)
    dead = Cell("c1:dead", variant="q8_0", attempts=[Attempt(status="crashed", signal="SIGSEGV")])
    dead.only.error, dead.only.traces = "child died", dead.only.traces[:3]
    open_ = Cell("c1:open", variant="f16", pass_="deployed", margin=None)
    skip = Cell("c1:skip", engine="vllm", reason="vllm has no metal backend", attempts=[])
    bench.cells = [
        bad,
        dead,
        open_,
        skip,
        Cell("c1:good", engine="transformers", kind="transformers"),
    ]
    bench.write()
    return bench


def said(capsys: Capture) -> str:
    return capsys.readouterr().out


def test_check_prints_verdicts_with_scope_culprit_and_what_failed(
    mixed: Bench, capsys: Capture
) -> None:
    assert check(mixed.results) == 1
    text = said(capsys)
    first, text = text.split("\n", 1)
    assert first.startswith("1 of 4 cells differs. The first one: tiny f32 on llama.cpp")
    assert "qualified (9 of 11 stages)" in text
    assert "rope_theta 10000, the model says 50000" in " ".join(text.replace("│", " ").split())
    assert "crashed (SIGSEGV): child died" in text
    assert "1 × vllm has no metal backend" in text
    assert "fleetqual explain c1:bad" in text
    assert "mean KL" in text
    alarms = "prefill 0 of 24, decode 0 of 24 benign configurations alarm (upper 95 % bound 11.7 %)"
    assert alarms in " ".join(text.split())
    assert max(len(line) for line in text.split("Why")[0].splitlines()) <= 120
    assert "\x1b" not in text


def test_check_as_json_is_json_with_every_public_column(mixed: Bench, capsys: Capture) -> None:
    assert check(mixed.results, RUN, as_json=True) == 1
    found = json.loads(said(capsys))
    assert list(found) == [
        "run_id",
        "headline",
        "exit_code",
        "qualification",
        "verdicts",
        "attempts",
        "quarantined",
        "unexpected_passes",
        "alarm_rates",
    ]
    assert {(r["probe"], r["alarms"]) for r in found["alarm_rates"]} == {
        ("prefill", 0),
        ("decode", 0),
    }
    assert (found["run_id"], found["exit_code"]) == (RUN, 1)
    assert {r["cell_id"]: r["verdict"] for r in found["qualification"]} == {
        "c1:bad": "divergent",
        "c1:dead": "error",
        "c1:open": "inconclusive",
        "c1:good": "qualified",
    }


def test_the_public_columns_are_those_of_the_design() -> None:
    verdict = (
        "stage case_group verdict reason observed n mismatches effect ci_low ci_high margin "
        "p_value first_case explanation reference_id floor_id rules_version"
    )
    qualification = "verdict culprit culprits confirmed required observed_stages explanation"
    for row, own in ((VerdictRow, verdict), (QualificationRow, qualification)):
        columns = [column_name(field) for field in row.model_fields]
        assert columns == f"{IDENTITY} {own}".split()


def test_junit_has_a_suite_per_cell_and_a_case_per_required_stage(
    mixed: Bench, tmp_path: Path
) -> None:
    check(mixed.results, junit=tmp_path / "out" / "junit.xml")
    root = Xml.parse(tmp_path / "out" / "junit.xml").getroot()
    suites = {suite[0].get("classname", "").split(".")[-1]: suite for suite in root}
    assert set(suites) == {"c1:bad", "c1:dead", "c1:open", "c1:good"}
    assert [case.get("name") for case in suites["c1:good"].iter("testcase")] == REQUIRED
    assert suites["c1:good"].findtext("system-out") == "qualified (9 of 11 stages)"
    assert "1 of 4 cells differs" in root.get("name", "")
    counts = {c: (s.get("failures"), s.get("errors")) for c, s in suites.items()}
    assert counts["c1:good"] == ("0", "0")
    assert counts["c1:dead"] == ("0", str(len(REQUIRED)))
    assert counts["c1:open"] == ("0", "1")
    assert counts["c1:bad"][0] == "5"
    assert "alert(1)" in "".join(root.itertext())


def test_junit_is_not_green_where_a_required_stage_was_not_observed(
    bench: Bench, tmp_path: Path
) -> None:
    timed = Cell("c1:timed", pass_="timed", margin=None)
    bench.cells.append(timed)
    for cell in bench.cells:
        cell.only.traces = [t for t in cell.only.traces if t.columns["stage"] != "parse"]
        star = {"case_id": "*", "stage": "parse", "probe": "none", "observed": "hidden"}
        cell.only.traces.append(Trace({**star, "error": "behind a closed door"}))
    bench.write()
    assert check(bench.results, junit=tmp_path / "junit.xml") == 3
    root = Xml.parse(tmp_path / "junit.xml").getroot()
    suites = {suite[0].get("classname", "").split(".")[-1]: suite for suite in root}
    assert suites["c1:0001"].get("errors") == "1"
    assert "closed door" in "".join(suites["c1:0001"].itertext())


def test_junit_of_a_run_without_cells_is_one_error(bench: Bench, tmp_path: Path) -> None:
    bench.cells = []
    bench.write()
    assert check(bench.results, junit=tmp_path / "junit.xml") == 3
    assert Xml.parse(tmp_path / "junit.xml").getroot().get("errors") == "1"


# Which run


def written(
    bench: Bench, run_id: str, day: int, *, only: str | None = None, end: bool = True
) -> None:
    run = Bench(bench.root, run_id=run_id)
    run.write()
    config = json.dumps({"only": only, "matrix_path": "matrix.yaml", "references": []})
    start = NOW + dt.timedelta(days=day)
    row = RunRow(run_id=run_id, config=config, code_version="0", started=start)
    store = Store(bench.results)
    store.write(run_id, "runs", "start", [row])
    store.write(run_id, "runs", "end", [row.model_copy(update={"finished": start} if end else {})])


def test_the_latest_run_is_the_one_that_began_last_whatever_its_name(bench: Bench) -> None:
    written(bench, "nightly", 1)
    written(bench, "20270101-000000-ffff", 0)
    assert choose_run(Store(bench.results), None) == "nightly"
    assert choose_run(Store(bench.results), "2027") == "20270101-000000-ffff"


def test_a_finished_run_of_the_whole_plan_is_preferred(bench: Bench) -> None:
    written(bench, "narrow", 3, only="case=stop/eos")
    written(bench, "open", 4, end=False)
    assert choose_run(Store(bench.results), None) == "open"
    written(bench, "whole", 1)
    assert choose_run(Store(bench.results), None) == "whole"


def test_what_is_not_the_default_run_is_named_in_the_hint(bench: Bench, capsys: Capture) -> None:
    bench.attempt.change("stop", "stop/eos", text="other")
    bench.write()
    assert check(bench.results) == 1
    assert "explain c1:0001\n" in said(capsys)
    written(bench, "later", 9)
    check(bench.results, RUN)
    assert f"explain c1:0001 --run {RUN}\n" in said(capsys)


def test_an_unknown_run_is_an_error_that_lists_the_known_ones(mixed: Bench) -> None:
    with pytest.raises(UserError, match=RUN):
        check(mixed.results, "nope")


def test_without_any_run_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fleetqual run"):
        check(str(tmp_path))


def test_explain_shows_both_sides_marked_and_the_command_that_reproduces_it(
    mixed: Bench, capsys: Capture
) -> None:
    assert explain(mixed.results, "c1:bad") == 0
    text = said(capsys)
    flat = " ".join(text.replace("│", " ").split())
    assert "\\u{001b}[31m[bold]\\u{0000}\\u{202e}" in flat
    assert "⟦cafe\\u{0301}⟧" in flat
    assert "1 7 ⟦99⟧" in flat
    assert "rope_theta 10000, the model says 50000" in flat
    assert "turns messages and tools into the prompt text" in flat
    assert "margin δ 1e-07" in flat
    again = "fleetqual explain c1:bad --case template/plain --reproduce --run " + RUN
    assert f"{again} --results {mixed.results}" in flat
    assert "fleetqual run matrix.yaml --only cell=c1:bad" in flat
    assert 'signature: "p1:' in flat
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "wanted", ["c1:dead", "dea", "s1:dead", "llama_cpp/q8_0/structure", "q8_0"]
)
def test_explain_finds_a_cell_by_id_prefix_series_or_name(
    mixed: Bench, capsys: Capture, wanted: str
) -> None:
    explain(mixed.results, wanted)
    text = said(capsys)
    assert "crashed (SIGSEGV)" in text
    assert "attempt 1 (crashed): 3 traces of config" in text


@pytest.mark.parametrize(
    ("wanted", "message"),
    [("zzz", "c1:bad"), ("llama_cpp", "fits 3 cells"), ("c1:skip", "no metal backend")],
)
def test_explain_of_no_one_cell_lists_what_there_is(
    mixed: Bench, wanted: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        explain(mixed.results, wanted)


def test_explain_of_one_case_tells_only_of_it(mixed: Bench, capsys: Capture) -> None:
    explain(mixed.results, "c1:bad", case="logits/l2", as_json=True)
    (found,) = json.loads(said(capsys))["cells"]
    assert {d["case_id"] for d in found["differences"]} == {"logits/l2"}
    assert {p["case_id"] for p in found["worst_positions"]} == {"logits/l2"}
    assert len(found["worst_positions"][0]["expected"]) == 4
    with pytest.raises(UserError, match="logits/l2"):
        explain(mixed.results, "c1:bad", case="logits/lx")


def test_explain_of_one_case_shows_no_stage_that_does_not_hold_it(
    mixed: Bench, capsys: Capture
) -> None:
    explain(mixed.results, "c1:bad", case="template/plain")
    text = said(capsys)
    assert "This part turns messages and tools into the prompt text." in text
    assert text.count("This part") == 1
    assert "confirmed: not applicable" in text
    explain(mixed.results, "c1:bad", case="template/system")
    text = said(capsys)
    assert "This part" not in text
    assert "template, case template/system (isolate): match" in text


def test_explain_of_tokens_tells_what_the_ids_decode_to(bench: Bench, capsys: Capture) -> None:
    value = json.dumps({"text": "cafe\u0301", "round_trip": "cafe\u0301\n"})
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9], value=value)
    bench.write()
    explain(bench.results, "c1:0001")
    assert "decodes its ids to: cafe\\u{0301}\\n\n" in said(capsys)


def test_the_report_is_one_page_that_escapes_model_output(mixed: Bench, tmp_path: Path) -> None:
    page = write_report(mixed.results, None, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page or "cript&gt;alert" in page
    assert not {"\x1b", "\x00", "\u202e"} & set(page)
    assert "default-src &#39;none&#39;" in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count('<details class="cell"') == 4
    assert "0 of 24 benign configurations alarm" in page
    assert "The fault lies in logits, the part that computes the distribution" in page
    for text in ("rope_theta 10000", "SIGSEGV", "vllm has no metal backend", "EPYC"):
        assert text in page


def test_the_report_names_quarantined_files(bench: Bench, tmp_path: Path) -> None:
    bench.write()
    (path, *_) = (bench.root / "runs" / RUN / "requests").glob("*.parquet")
    path.write_bytes(b"PAR1 rubbish PAR1")
    page = write_report(bench.results, RUN, tmp_path / "page.html").read_text(encoding="utf-8")
    assert path.name in page
