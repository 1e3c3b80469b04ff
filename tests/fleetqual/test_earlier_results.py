"""Results that version 0.1.0 wrote are still read, and judged from scratch with equal verdicts."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analysis.judging.catalog import Catalog, open_catalog
from analysis.judging.gate import JUDGED, inspect
from analysis.judging.judge import open_judged
from analysis.showing.check import check
from analysis.showing.explain import explain
from runner.stored.store import Store
from runner.stored.tables import TABLES
from tests.paths import ROOT

STORED = ROOT / "tests" / "fixtures" / "results-of-0.1.0"
#: Run → cells, and the exit code of `check`.
RUNS = {"20261128-073923-31ff": (1, 0), "faults": (6, 1), "state": (1, 1), "sampling": (1, 1)}
#: What names a row.
KEYS = ("run_id", "cell_id", "node_id", "stage", "case_group")
#: What may change: wording, what the judgement says of itself, the ids of what was shipped again.
FREE = ("explanation", "reason", "rules_version", "reference_id", "floor_id")
Rows = dict[tuple[Any, ...], dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A copy: judging again writes beside the evidence."""
    return str(shutil.copytree(STORED, tmp_path_factory.mktemp("earlier") / "results"))


@pytest.fixture(scope="module")
def judged(results: str) -> Iterator[Catalog]:
    """The runs, judged from scratch, whatever is stored."""
    with open_catalog(Store(results), list(RUNS), judging=list(RUNS)) as catalog:
        yield catalog


def _stored_rows(table: str) -> list[dict[str, Any]]:
    """Read the judgement's files without any code of ours."""
    files = sorted(STORED.glob(f"runs/*/{table}/*.parquet"))
    assert len(files) == len(RUNS)
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def _by_key(rows: list[dict[str, Any]]) -> Rows:
    found = {tuple(row.get(key) for key in KEYS): row for row in rows}
    assert len(found) == len(rows)
    return found


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    facts = {name: value for name, value in row.items() if name not in FREE}
    # Their words may change; whether there are any may not.
    there = {
        f"has {name}": row.get(name) is not None for name in ("reason", "reference_id", "floor_id")
    }
    return {**facts, **there}


def _approximately(facts: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: v for name, v in facts.items() if isinstance(v, float)}
    return facts | {name: pytest.approx(v, rel=1e-9, abs=1e-18) for name, v in numbers.items()}


@pytest.mark.parametrize("table", JUDGED)
def test_judged_from_scratch_every_verdict_is_the_stored_one(judged: Catalog, table: str) -> None:
    before = _by_key(_stored_rows(table))
    after = _by_key(judged.rows(f"SELECT * FROM {table}"))
    assert after.keys() == before.keys()
    for key, row in before.items():
        assert _facts(after[key]) == _approximately(_facts(row)), key


def test_the_stored_runs_show_verdicts_of_every_kind() -> None:
    stages = {(row["stage"], row["verdict"]) for row in _stored_rows("verdicts")}
    assert {verdict for _, verdict in stages} == {
        *("qualified", "divergent", "not_observed", "error", "expected")
    }
    assert {stage for stage, verdict in stages if verdict == "divergent"} == {
        *("config", "template", "logits", "state", "sampling", "chain")
    }
    cells = _stored_rows("qualification")
    assert {row["culprit"] for row in cells} == {
        *(None, "interface", "template", "logits", "state", "sampling")
    }
    assert {row["confirmed"] for row in cells} == {"yes", "not_applicable"}


def test_all_stored_files_are_evidence_and_none_is_set_aside(results: str) -> None:
    seen = dict.fromkeys([*TABLES, *JUDGED], 0)
    for run_id in RUNS:
        evidence = inspect(Store(results), run_id)
        assert evidence.quarantined == ()
        for table, files in evidence.files.items():
            seen[table] += len(files)
    # No run of these sampled the power.
    assert {table for table, n in seen.items() if n == 0} == {"power"}


@pytest.mark.parametrize("table", JUDGED)
def test_a_stored_judgement_is_shown_as_it_was_written(results: str, table: str) -> None:
    with open_catalog(Store(results), list(RUNS)) as catalog:
        shown = _by_key(catalog.rows(f"SELECT * FROM {table}"))
    assert shown == _by_key(_stored_rows(table))


@pytest.mark.parametrize("run_id", RUNS)
def test_check_gives_the_exit_code_of_before_and_keeps_the_judgement_of_before(
    run_id: str, results: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, code = RUNS[run_id]
    assert check(results, run_id, as_json=True) == code
    said = json.loads(capsys.readouterr().out)
    assert len(said["qualification"]) == cells
    assert said["quarantined"] == []
    for table in JUDGED:
        (before,) = STORED.glob(f"runs/{run_id}/{table}/*.parquet")
        kept = Path(results, *before.relative_to(STORED).parts)
        assert kept.read_bytes() == before.read_bytes()


def test_a_cell_of_before_is_explained(results: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain(results, "c1:51da6339", run_id="faults")
    text = capsys.readouterr().out
    assert "The fault lies in template" in text
    assert "template/tools" in text


def test_judging_again_holds_and_is_not_repeated(results: str) -> None:
    for _ in range(2):
        open_judged(Store(results), "state").close()
    newest = sorted(Path(results, "runs", "state", "verdicts").glob("*.parquet"))
    assert len(newest) == 2, "the stored judgement and one of today"
