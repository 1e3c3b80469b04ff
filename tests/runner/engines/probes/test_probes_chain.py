"""Swaps in the candidate's own chain: only with a symptom, and only what cures it cures."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fleetqual.selftest.files.hf import faulty_folder
from fleetqual.selftest.injections import HfInjection
from runner.freeze import freeze
from runner.stored.store import Store
from runner.supervisor import execute
from suites.suite import Case, Suite
from tests.paths import TINY_CHAT
from tests.runner.conftest import OrderMaker

Answers = dict[tuple[str, str], dict[str, Any]]

_ASKED = ("19 + 6 = ?", "Is 48 greater than 17?", "What is your name?", "Hello!")
SUITE = Suite(
    name="chains",
    version=1,
    requires=("template",),
    cases=tuple(
        Case(
            id=f"chain/{number}",
            stage="chain",
            messages=({"role": "user", "content": text},),
            max_tokens=16,
        )
        for number, text in enumerate(_ASKED)
    ),
)
_ALONE: dict[str, object] = {"threads": 1}
_SYMPTOM = ("prompt_ids", "output_ids", "text", "finish_reason", "message")
_CURES = ["cure/logits", "cure/sampling", "cure/template", "cure/tokenize"]


@pytest.fixture(scope="module")
def frozen(make_order: OrderMaker, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("frozen"))
    freeze([make_order("transformers", freeze=True, suite=SUITE, options=_ALONE)], root)
    return root


@pytest.fixture(scope="module")
def edited(
    make_order: OrderMaker, frozen: str, tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """Answers of a model whose template opens each turn with one line break too few."""
    folder = tmp_path_factory.mktemp("edited")
    change = HfInjection(template=("'<|body|>\\n\\n'", "'<|body|>\\n'"))
    artifact = faulty_folder(TINY_CHAT, folder / "model", change)
    order = make_order(
        "transformers", suite=SUITE, references=(frozen,), artifact=artifact, options=_ALONE
    )
    return _answers(order, folder / "results")


def _answers(order: Any, results: Path) -> Answers:
    (outcome,) = execute(order, str(results))
    assert outcome.status == "ok", outcome.error
    rows = Store(str(results)).read(order.run_id, "traces")
    return {(row["case_id"], row["probe"]): row for row in rows if row["stage"] == "chain"}


def _truth(frozen: str, case_id: str) -> dict[str, Any]:
    rows = Store(frozen).read_file(Store(frozen).parquet_files("")[0]).to_pylist()
    return next(r for r in rows if (r["case_id"], r["probe"]) == (case_id, "whole"))


def _same(seen: dict[str, Any], truth: dict[str, Any]) -> bool:
    return all(seen[name] == truth[name] for name in _SYMPTOM)


def _cures(answers: Answers, case_id: str) -> list[str]:
    return sorted(p for case, p in answers if case == case_id and p.startswith("cure/"))


@pytest.mark.parametrize("engine", ["llama_cpp", "transformers"])
def test_nothing_is_swapped_where_the_answer_is_the_truth_s(
    engine: str, make_order: OrderMaker, frozen: str, tmp_path: Path
) -> None:
    options = _ALONE if engine == "transformers" else None
    order = make_order(engine, suite=SUITE, references=(frozen,), options=options)
    answers = _answers(order, tmp_path)
    assert {probe for _, probe in answers} == {"whole", "stream"}
    whole = answers["chain/0", "whole"]
    assert whole["text"] == "25"
    assert whole["prompt_text"] == _truth(frozen, "chain/0")["prompt_text"]


def test_without_a_truth_nothing_is_swapped(make_order: OrderMaker, tmp_path: Path) -> None:
    answers = _answers(make_order(suite=SUITE), tmp_path)
    assert {probe for _, probe in answers} == {"whole", "stream"}
    assert answers["chain/0", "whole"]["top_ids"]


def test_stages_are_swapped_in_three_cases_with_a_symptom_at_most(edited: Answers) -> None:
    found = {case: _cures(edited, case) for case, probe in edited if probe == "whole"}
    assert list(found.values()) == [_CURES, _CURES, _CURES, []]
    assert all(row["error"] is None for row in edited.values())


def test_the_truth_s_prompt_cures_and_other_swaps_do_not(edited: Answers, frozen: str) -> None:
    truth = _truth(frozen, "chain/0")
    assert not _same(edited["chain/0", "whole"], truth)
    assert _same(edited["chain/0", "cure/template"], truth)
    assert _same(edited["chain/0", "cure/tokenize"], truth)
    assert not _same(edited["chain/0", "cure/logits"], truth)
    assert not _same(edited["chain/0", "cure/sampling"], truth)


def test_what_is_forced_is_the_truth_s_answer_or_the_candidate_s_own_argmax(
    edited: Answers, frozen: str
) -> None:
    whole, truth = edited["chain/0", "whole"], _truth(frozen, "chain/0")
    logits, sampled = (edited["chain/0", f"cure/{stage}"] for stage in ("logits", "sampling"))
    assert json.loads(logits["value"])["script_ids"] == truth["output_ids"] == logits["output_ids"]
    assert logits["prompt_ids"] == whole["prompt_ids"] != truth["prompt_ids"]
    assert json.loads(sampled["value"])["script_ids"] == whole["output_ids"]


def test_a_truth_that_lacks_an_output_is_told_by_that_swap_alone(
    make_order: OrderMaker, frozen: str, tmp_path: Path
) -> None:
    """References from before the prompt's text was kept."""
    store = Store(frozen)
    (name,) = store.parquet_files("")
    table = store.read_file(name)
    column = table.schema.get_field_index("prompt_text")
    blank = pa.nulls(len(table), pa.string())
    (tmp_path / "old").mkdir()
    Store(str(tmp_path / "old")).write_table(name, table.set_column(column, "prompt_text", blank))
    change = HfInjection(template=("'<|body|>\\n\\n'", "'<|body|>\\n'"))
    artifact = faulty_folder(TINY_CHAT, tmp_path / "model", change)
    order = make_order(
        "transformers",
        suite=SUITE,
        references=(str(tmp_path / "old"),),
        artifact=artifact,
        options=_ALONE,
    )
    answers = _answers(order, tmp_path / "results")
    assert "prompt_text is missing" in answers["chain/0", "cure/template"]["error"]
    assert answers["chain/0", "cure/tokenize"]["error"] is None
    assert answers["chain/0", "whole"]["error"] is None
