"""What a stranger reads of a fault: which part to fix, and what shows it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from analysis.showing.explain import explain
from analysis.showing.explain_tables import print_draws
from analysis.showing.report import write_report
from analysis.showing.stage_evidence import stage_evidence
from suites.errors import UserError
from tests.analysis.conftest import Judged
from tests.analysis.handmade import Bench, Cell
from tests.analysis.handmade_state import alone_logits, among, change, plan_state
from tests.analysis.handmade_traces import Trace
from tests.analysis.handmade_truth import LOGITS, digest_of, distribution, true_ids, true_logits
from tests.analysis.views.test_confirmed import OTHER_PROMPT, RIGHT, spoil, swap

Judge = Callable[[Bench], Judged]
Capture = pytest.CaptureFixture[str]


def told(bench: Bench, capsys: Capture, cell: str = "c1:0001", case: str | None = None) -> str:
    """Return what `explain` prints, on one line."""
    bench.write()
    explain(bench.results, cell, case=case)
    text = capsys.readouterr().out.replace("│", " ").replace("║", " ")
    return " ".join(text.split())


def page(bench: Bench, tmp_path: Path) -> str:
    return write_report(bench.results, None, tmp_path / "page.html").read_text(encoding="utf-8")


def first_sentence(text: str) -> str:
    return text.split("╮")[1].strip()


def test_the_first_sentence_says_which_part_to_fix_and_how_sure_that_is(
    bench: Bench, capsys: Capture, tmp_path: Path
) -> None:
    spoil(bench.attempt, "template")
    bench.attempt.change("chain", "chain/plain", "whole", **OTHER_PROMPT)
    swap(bench.attempt, "cure/template", RIGHT)
    swap(bench.attempt, "cure/sampling", OTHER_PROMPT)
    text = told(bench, capsys)
    assert first_sentence(text).startswith(
        "The fault lies in template, the part that turns messages and tools into the prompt text; "
        "putting parts in its place confirms it."
    )
    assert "confirmed: yes" in text
    for shown in (text, page(bench, tmp_path)):
        assert "with the truth" in shown
        assert "s prompt text the answer is right" in shown
        assert "with the plain argmax of its own logits the symptom stays" in shown


FIRST_SENTENCES = {
    "none": "Nothing to fix: every required part agrees",
    "interface": "Every part is right by itself and the whole is wrong",
    "instrument": "The measurement itself is not steady",
    "margin": "Not decided: the evidence neither clears this cell nor blames",
    "hidden": "Every part is right by itself and the whole is wrong",
    "crashed": "Nothing to judge: no attempt at this cell came to its end",
}


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with one cell for each kind of first sentence; return its results root."""
    cells = {name: Cell(f"c1:{name}") for name in FIRST_SENTENCES}
    for name in ("interface", "hidden"):
        cells[name].only.change("chain", "chain/plain", "whole", text="something else")
    shown = cells["hidden"].only
    shown.traces = [t for t in shown.traces if t.columns["stage"] != "template"]
    noisy = true_logits(LOGITS[0]) + np.random.default_rng(1).normal(0, 1, (12, 32))
    numbers = distribution(noisy, true_ids(LOGITS[0]))
    cells["instrument"].only.change("instrument", LOGITS[0], "again", **numbers)
    cells["margin"].pass_, cells["margin"].margin = "deployed", None
    cells["crashed"].only.status = "crashed"
    return Bench(tmp_path_factory.mktemp("spoilt"), cells=list(cells.values())).write()


@pytest.mark.parametrize("name", FIRST_SENTENCES)
def test_the_first_sentence_is_plain_whatever_the_verdict(
    spoilt: str, capsys: Capture, name: str
) -> None:
    explain(spoilt, f"c1:{name}")
    text = " ".join(capsys.readouterr().out.replace("│", " ").replace("║", " ").split())
    assert first_sentence(text).startswith(FIRST_SENTENCES[name])


def test_a_state_fault_tells_scenario_row_and_position(
    bench: Bench, capsys: Capture, tmp_path: Path
) -> None:
    plan_state(bench, "batched")
    logits = alone_logits("batched")
    logits[32:] += np.random.default_rng(2).normal(0, 1, logits[32:].shape)
    change(bench.attempt, "batched", 1, **among("batched", 1, logits))
    text = told(bench, capsys)
    assert "The fault lies in state, the part that keeps sequences apart" in text
    assert "batched with 1 others, row 1: mean KL" in text
    assert "first differing position 32 (a border of 32)" in text
    assert "no swap tests state" in text
    assert "another answer" not in text.split("state: divergent")[1]
    assert "batched with 1 others, row 1: mean KL" in page(bench, tmp_path)


def plan_draws(bench: Bench, asked: dict[str, Any], temperature: float, n: int = 2000) -> None:
    """Plan a draws case, and draw from the engine's distribution at another temperature."""
    case_id = "sampling/draws"
    bench.more_cases[case_id] = {"measure": "draws", "asked": asked, "draws": n}
    logits = true_logits(case_id, 1)
    with np.errstate(divide="ignore"):
        # All ids are kept, so nothing is left for the tail.
        numbers = distribution(logits, np.argsort(-logits, axis=1), own=32)
    weights = np.exp((logits[0] - logits.max()) / temperature)
    counts = np.random.default_rng(3).multinomial(n, weights / weights.sum())
    value = {
        "counts": {str(i): int(c) for i, c in enumerate(counts) if c},
        "draws": n,
        "seed": 3,
        "lse": float(np.log(np.exp(logits[0]).sum())),
        "bias": {},
    }
    attempt = bench.attempt
    attempt.traces = [t for t in attempt.traces if t.columns["stage"] != "sampling"]
    keys = {"case_id": case_id, "case_digest": digest_of(case_id), "stage": "sampling"}
    probe = {"probe": "draws", "observed": "path", "prompt_ids": [1, 2], "repeat": 0}
    attempt.traces.append(Trace({**keys, **probe, **numbers, "value": json.dumps(value)}))


def test_a_sampling_fault_tells_what_was_asked_what_came_and_what_it_looks_like(
    bench: Bench, capsys: Capture, tmp_path: Path
) -> None:
    plan_draws(bench, {"temperature": 0.5}, temperature=1.0)
    text = told(bench, capsys)
    assert "The fault lies in sampling, the part that picks a token" in text
    assert 'case sampling/draws asked {"temperature":0.5}' in text
    assert "2000 draws · χ² " in text
    assert "detectable with power 0.99: w ≥ 0." in text
    assert "looks like: " in text
    assert "token id" in text
    html = page(bench, tmp_path)
    assert "<h3>Draws</h3>" in html
    assert "looks like" in html


def test_draws_that_pass_are_shown_only_when_their_case_is_asked_for(
    bench: Bench, capsys: Capture
) -> None:
    plan_draws(bench, {}, temperature=1.0)
    assert "token id" not in told(bench, capsys)
    text = told(bench, capsys, case="sampling/draws")
    assert "token id" in text
    assert "looks like" not in text


def test_a_numeric_fault_tells_its_profile(bench: Bench, capsys: Capture, tmp_path: Path) -> None:
    bench.cells = [Cell("c1:0001"), Cell("c1:clean")]
    for case in LOGITS:
        z = true_logits(case)
        size = np.where(np.arange(len(z)) < 6, 1e-5, 1.0)[:, None]
        z = z + size * np.random.default_rng(1).normal(0, 0.3, z.shape)
        bench.cells[0].only.change("logits", case, "prefill", **distribution(z, true_ids(case)))
    assert "prefill over 12 positions: step at 6; it steps up at position 6" in told(bench, capsys)
    assert "positions: flat" not in told(bench, capsys, "c1:clean")
    assert "prefill: step at 6" in page(bench, tmp_path)


@pytest.mark.parametrize("name", ["smoke/other/f32/structure", "other/f32/structure"])
def test_a_skipped_cell_is_found_by_its_name_and_says_why(bench: Bench, name: str) -> None:
    bench.cells = [Cell("c1:0001"), Cell("c1:skipped", engine="other", reason="not installed")]
    bench.write()
    with pytest.raises(UserError, match="was skipped: not installed"):
        explain(bench.results, name)


def test_the_power_that_is_told_is_the_one_of_the_rules(bench: Bench, judged: Judge) -> None:
    plan_draws(bench, {}, temperature=1.0)
    catalog = judged(bench).catalog
    catalog.relations.build("sources.rules", "numeric.draw_tests")
    catalog.con.execute("UPDATE sources.rules SET draws_power = 0.9")
    (cell,) = catalog.rows("SELECT * FROM qualification")
    (draws,) = stage_evidence(catalog, cell, "sampling/draws")["draws"]
    out = Console(width=200, record=True, file=io.StringIO())
    print_draws(out, [draws])
    assert "detectable with power 0.9: w" in out.export_text()
