"""One behaviour per rule: what is compared exactly, and what is never a match."""

import json
from collections.abc import Callable

import pytest

from analysis.judging.judge import open_judged
from runner.stored.store import Store
from tests.analysis.arranged import Halves, arranged
from tests.analysis.conftest import Judged
from tests.analysis.handmade import REQUIRED, RUN, Attempt, Bench, Cell
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import CASES

Judge = Callable[[Bench], Judged]
ISOLATES = ["template", "tokenize", "stop", "detokenize", "parse"]
FIRST_CASE = {
    "template": "template/plain",
    "tokenize": "tokenize/ascii",
    "stop": "stop/eos",
    "detokenize": "detokenize/emoji",
    "parse": "parse/call",
    "logits": "logits/l0",
    "chain": "chain/plain",
}
WRONG = {
    "template": {"prompt_text": "<s>user:  hi</s>"},
    "tokenize": {"prompt_ids": [1, 1, 5, 6]},
    "stop": {"finish_reason": "length"},
    "detokenize": {"text": "ok �"},
    "parse": {"message": json.dumps({"content": "<tool_call>f</tool_call>"})},
}


@arranged
def test_a_clean_cell_is_qualified_with_its_scope(bench: Bench) -> Halves:
    found = yield
    cell = found.cell()
    assert cell["verdict"] == "qualified"
    assert cell["observed_stages"] == "9 of 11"
    assert cell["confirmed"] == "not_applicable"
    assert found.exit_code == 0


def one_cell_each(bench: Bench, names: list[str]) -> dict[str, Attempt]:
    """Give every name a cell of its own, so that one judgement tells of them all."""
    bench.cells = [Cell(f"c1:{name}") for name in names]
    return {name: cell.only for name, cell in zip(names, bench.cells, strict=True)}


@arranged
def test_a_difference_is_placed_at_its_stage(bench: Bench) -> Halves:
    for stage, attempt in one_cell_each(bench, ISOLATES).items():
        probe = "whole" if stage == "detokenize" else None
        attempt.change(stage, FIRST_CASE[stage], probe, **WRONG[stage])
    found = yield
    for stage in ISOLATES:
        cell = f"c1:{stage}"
        assert found.verdict(stage, cell) == "divergent"
        assert found.stage(stage, cell=cell)["first_case"] == FIRST_CASE[stage]
        assert found.cell(cell)["culprit"] == found.cell(cell)["culprits"] == stage
        assert found.cell(cell)["confirmed"] == "not_applicable"
    assert found.exit_code == 1


@arranged
def test_a_missing_trace_is_never_a_match(bench: Bench) -> Halves:
    for stage, attempt in one_cell_each(bench, [*ISOLATES, "logits"]).items():
        attempt.drop(stage, FIRST_CASE[stage])
    found = yield
    for stage in (*ISOLATES, "logits"):
        cell = f"c1:{stage}"
        assert found.verdict(stage, cell) == "inconclusive"
        assert "missing" in found.stage(stage, cell=cell)["reason"]
        assert found.cell(cell)["verdict"] == "inconclusive"
    assert found.exit_code == 3


@arranged
def test_a_probe_that_failed_is_never_a_match(bench: Bench) -> Halves:
    for stage, attempt in one_cell_each(bench, [*ISOLATES, "logits", "chain"]).items():
        attempt.fail(stage, FIRST_CASE[stage], "RuntimeError: boom")
    found = yield
    for stage in (*ISOLATES, "logits", "chain"):
        assert found.verdict(stage, f"c1:{stage}") == "inconclusive"
        assert "boom" in found.stage(stage, cell=f"c1:{stage}")["reason"]


@arranged
def test_a_case_that_failed_before_its_probes_is_never_a_match(bench: Bench) -> Halves:
    bench.attempt.drop("detokenize", "detokenize/emoji", "stream")
    bench.attempt.fail("detokenize", "detokenize/emoji", "boom")
    for trace in bench.attempt.find("detokenize", "detokenize/emoji"):
        trace.columns["probe"] = "*"
    assert (yield).stage("detokenize")["reason"].startswith("2 of 2 cases not compared")


@arranged
def test_a_stage_without_any_trace_is_never_a_match(bench: Bench) -> Halves:
    stages = ["config", "weights", "instrument"]
    for stage, attempt in one_cell_each(bench, stages).items():
        attempt.traces = [t for t in attempt.traces if t.columns["stage"] != stage]
    found = yield
    assert [found.verdict(s, f"c1:{s}") for s in stages] == ["inconclusive"] * 3


@arranged
def test_without_golden_text_and_reference_there_is_no_verdict(bench: Bench) -> Halves:
    bench.reference_cases = tuple(c for c in bench.reference_cases if c != "logits/l0")
    found = yield
    assert found.verdict("logits") == "inconclusive"
    assert "2 of 12" not in found.stage("logits")["reason"]
    assert "1 without truth" in found.stage("logits")["reason"]


@arranged
def test_a_required_stage_not_observed_makes_the_cell_inconclusive(bench: Bench) -> Halves:
    hows = ["hidden", "absent", "not_probed"]
    for how, attempt in one_cell_each(bench, hows).items():
        attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "parse"]
        star = {"case_id": "*", "stage": "parse", "probe": "none", "observed": how, "error": "why"}
        attempt.traces.append(Trace(star))
    found = yield
    for how in hows:
        assert found.verdict("parse", f"c1:{how}") == "not_observed"
        assert found.stage("parse", cell=f"c1:{how}")["reason"] == f"{how}: why"
        assert found.cell(f"c1:{how}")["verdict"] == "inconclusive"
        assert found.cell(f"c1:{how}")["observed_stages"] == "8 of 11"


@arranged
def test_a_gguf_taken_as_the_model_is_qualified_and_its_scope_says_what_was_not_checked(
    bench: Bench,
) -> Halves:
    bench.cells = [Cell(required=[stage for stage in REQUIRED if stage != "weights"])]
    attempt, why = bench.attempt, "the GGUF was taken as the model: conversion was not checked"
    attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "weights"]
    star = {"case_id": "*", "stage": "weights", "probe": "none", "observed": "absent", "error": why}
    attempt.traces.append(Trace(star))
    found = yield
    cell = found.cell()
    assert (cell["verdict"], cell["observed_stages"]) == ("qualified", "8 of 11")
    assert found.verdict("weights") == "not_observed"
    assert cell["explanation"] == f"every required stage agrees; {why}"


@arranged
def test_reenacted_evidence_never_alone_qualifies_but_can_diverge(bench: Bench) -> Halves:
    bench.attempt.change("parse", "parse/call", observed="reenacted")
    bench.attempt.change("stop", "stop/eos", observed="reenacted", **WRONG["stop"])
    found = yield
    assert found.verdict("parse") == "inconclusive"
    assert "reenacted" in found.stage("parse")["reason"]
    assert found.verdict("stop") == "divergent"


@arranged
def test_verdicts_are_also_given_by_tag(bench: Bench) -> Halves:
    bench.attempt.change("tokenize", "tokenize/nfd", prompt_ids=[1, 9])
    found = yield
    assert found.stage("tokenize", "nfd")["verdict"] == "divergent"
    assert found.stage("tokenize", "nfd")["n"] == 1


@arranged
def test_argument_order_is_a_difference_and_spacing_is_none(bench: Bench) -> Halves:
    call = {"name": "f", "arguments": '{"a": 2, "b": 1}'}
    message = json.dumps({"content": None, "tool_calls": [call]})
    bench.attempt.change("parse", "parse/call", message=message)
    assert (yield).verdict("parse") == "divergent"


# Attempts


@arranged
def test_a_crash_is_kept_as_an_error_with_what_came_before_it(bench: Bench) -> Halves:
    attempt = bench.attempt
    attempt.status, attempt.signal, attempt.stage_reached = "crashed", "SIGSEGV", "logits"
    attempt.traces = [t for t in attempt.traces if t.columns["stage"] in ("config", "template")]
    found = yield
    assert {found.verdict(stage) for stage in REQUIRED} == {"error"}
    assert "SIGSEGV" in found.cell()["explanation"]
    assert found.cell()["verdict"] == "error"
    assert {row["stage"] for row in found.rows("traces")} == {"config", "template"}
    assert found.exit_code == 3


@arranged
def test_a_planned_cell_without_an_attempt_is_an_error(bench: Bench) -> Halves:
    bench.cells[0].attempts = []
    found = yield
    assert found.cell()["verdict"] == "error"
    assert "no attempt" in found.cell()["explanation"]


@arranged
def test_the_first_ok_attempt_is_judged_and_never_a_later_one(bench: Bench) -> Halves:
    bad, good = Attempt(2), Attempt(3)
    bad.change("stop", "stop/eos", **WRONG["stop"])
    bench.cells[0].attempts = [Attempt(1, status="timeout", traces=[]), bad, good]
    found = yield
    assert found.cell()["attempt"] == 2
    assert found.verdict("stop") == "divergent"


@arranged
@pytest.mark.parametrize("noise", [0.3, 0.0])
def test_a_later_ok_attempt_that_disagrees_makes_the_instrument_inconclusive(
    bench: Bench, noise: float
) -> Halves:
    later = Attempt(2)
    if noise:
        later.logits(noise)
    else:
        later.change("stop", "stop/eos", **WRONG["stop"])
    bench.cells[0].attempts.append(later)
    found = yield
    assert found.verdict("instrument") == "inconclusive"
    assert "attempts 1 and 2 disagree" in found.stage("instrument")["reason"]


@arranged
def test_attempts_that_disagree_leave_the_cell_inconclusive_whatever_it_requires(
    bench: Bench,
) -> Halves:
    later = Attempt(2)
    later.change("stop", "stop/eos", **WRONG["stop"])
    bench.cells = [Cell(attempts=[Attempt(1), later], required=["template"])]
    cell = (yield).cell()
    assert cell["verdict"] == "inconclusive"
    assert "attempts 1 and 2 disagree" in cell["explanation"]


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_an_intact_later_attempt_takes_the_place_of_one_whose_traces_are_lost(
    bench: Bench, how: str
) -> None:
    bench.cells[0].attempts.append(Attempt(2))
    bench.write()
    (path,) = (bench.root / "runs" / RUN / "traces").glob("*-a1.parquet")
    if how == "damaged":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.unlink()
    with open_judged(Store(bench.results), RUN) as catalog:
        cell = Judged(catalog).cell()
    assert (cell["attempt"], cell["verdict"]) == (2, "qualified")


@arranged
def test_a_later_ok_attempt_within_the_margin_changes_nothing(bench: Bench) -> Halves:
    later = Attempt(2)
    later.logits(1e-5)
    bench.cells[0].attempts.append(later)
    assert (yield).cell()["verdict"] == "qualified"


@arranged
def test_golden_text_is_truth_for_the_weights_it_was_written_for_only(bench: Bench) -> Halves:
    """A fine-tune has the name's beginning and the tokenizer, but a template of its own."""
    bench.golden_weights = "w1:base"
    found = yield
    for stage in ISOLATES:
        assert found.verdict(stage) == "inconclusive"
        assert "without truth" in found.stage(stage)["reason"]


@arranged
def test_golden_text_of_a_suite_for_texts_is_truth_for_all_weights_that_it_names(
    bench: Bench,
) -> Halves:
    bench.golden_weights = f"w1:base {bench.golden_weights} w1:other"
    found = yield
    assert [found.verdict(stage) for stage in ISOLATES] == ["qualified"] * len(ISOLATES)


@arranged
def test_a_conversation_that_the_template_refuses_must_be_refused_with_its_words(
    bench: Bench,
) -> Halves:
    bench.cells = [Cell("c1:same"), Cell("c1:renders"), Cell("c1:fails")]
    refused = {"golden_prompt_text": None, "golden_refusal": "no system turn"}
    bench.golden["template/plain"] = refused
    for cell, error in (("c1:same", "no system turn"), ("c1:fails", "out of cheese")):
        attempt = next(c for c in bench.cells if c.cell_id == cell).only
        attempt.change(
            "template", "template/plain", prompt_text=None, error=f"TemplateError: {error}"
        )
    found = yield
    assert found.verdict("template", "c1:same") == "qualified"
    assert found.verdict("template", "c1:renders") == "divergent"
    assert "refused: no system turn" in found.stage("template", cell="c1:renders")["explanation"]
    assert found.verdict("template", "c1:fails") == "inconclusive"
    assert "out of cheese" in found.stage("template", cell="c1:fails")["reason"]


@arranged
def test_a_suite_says_why_it_asks_nothing_of_a_stage(bench: Bench) -> Halves:
    bench.unasked = {"state": "the call format is not known"}
    attempt = bench.attempt
    attempt.traces = [t for t in attempt.traces if t.columns["case_id"] != "*"]
    found = yield
    assert found.stage("state")["verdict"] == found.stage("sampling")["verdict"] == "not_observed"
    assert found.stage("state")["reason"] == "not_probed: the call format is not known"
    assert found.stage("sampling")["reason"] == ("not_probed: the suite has no case for this stage")


# Quarantine and nodes


def test_a_quarantined_trace_file_is_never_a_match(bench: Bench) -> None:
    bench.write()
    (path,) = (bench.root / "runs" / RUN / "traces").glob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    with open_judged(Store(bench.results), RUN) as catalog:
        found = Judged(catalog)
        assert {found.verdict(stage) for stage in REQUIRED} == {"inconclusive"}
        assert path.name in found.stage("weights")["reason"]
        assert path.name in found.stage("stop")["reason"]


@arranged
def test_one_cell_on_two_nodes_is_compared_directly(bench: Bench) -> Halves:
    bench.cells = [Cell(), Cell(node_id="node-b")]
    bench.cells[1].only.logits(1e-5, cases=("logits/l0",))
    rows = (yield).rows("divergences", "kind = 'between_nodes'")
    assert {(r["node_id"], r["other"], r["case_id"]) for r in rows} == {
        ("node-b", "node-a", "logits/l0")
    }
    assert all(0 < r["effect"] < 1e-7 for r in rows)


@arranged
def test_a_skipped_pair_is_not_judged(bench: Bench) -> Halves:
    bench.cells.append(Cell("c1:0002", reason="no metal here", attempts=[]))
    found = yield
    assert len(found.rows("qualification")) == 1


@arranged
def test_timed_cells_promise_no_verdict(bench: Bench) -> Halves:
    timed = Cell("c1:0002", pass_="timed", margin=None)
    timed.only.traces = [t for t in timed.only.traces if t.columns["stage"] == "chain"]
    bench.cells.append(timed)
    found = yield
    assert found.cell("c1:0002")["verdict"] == "not_observed"
    assert found.exit_code == 0


@arranged
def test_timed_cells_are_ranked_by_what_the_deployed_pass_says(bench: Bench) -> Halves:
    """Keyed by variant: is there a deployed pass, what does it say, is there a timed one."""
    bench.cells = []
    for variant in ("good", "bad", "alone", "untimed"):
        timed = Cell(f"c1:{variant}-t", variant=variant, pass_="timed", margin=None, required=[])
        timed.only.traces = [t for t in timed.only.traces if t.columns["stage"] == "chain"]
        deployed = Cell(f"c1:{variant}-d", variant=variant, pass_="deployed")
        if variant == "bad":
            deployed.only.change("stop", "stop/eos", **WRONG["stop"])
        bench.cells += [timed] if variant != "untimed" else []
        bench.cells += [deployed] if variant != "alone" else []
    rows = (yield).rows("performance")
    told = {row["cell_id"].removeprefix("c1:"): (row["verdict"], row["rankable"]) for row in rows}
    assert told == {
        "good-t": ("qualified", True),
        "good-d": ("qualified", False),
        "bad-t": ("divergent", False),
        "bad-d": ("divergent", False),
        "alone-t": ("not_observed", False),
        "untimed-d": ("qualified", True),
    }


def test_cases_of_every_stage_are_covered_here() -> None:
    assert {case.split("/")[0] for case in CASES} == set(FIRST_CASE)
