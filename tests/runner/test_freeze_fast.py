"""A freeze in batches has the truth of one request at a time; long cases keep some positions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.engines.events import Event, StageStarted
from runner.freeze import NoTruth, freeze, freeze_missing
from runner.order import CellOrder, WorkOrder
from runner.stored.store import Store
from runner.supervisor import execute
from suites.suite import Case, Script, Suite

OrderMaker = Callable[..., WorkOrder]
LONG = "The river leaves the hill at dawn. " * 30
TEXTS = ("Hello!", "What is 12 + 7?", "Count by 3 from 5, 8 numbers.", "What are you?")


def _asked(text: str) -> tuple[dict[str, Any], ...]:
    return ({"role": "user", "content": text},)


def _suite(name: str, *cases: Case) -> Suite:
    return Suite(name=name, version=1, requires=("logits",), cases=cases)


def _order(make_order: OrderMaker, *suites: Suite, **changes: Any) -> WorkOrder:
    order = make_order("transformers", freeze=True, **changes)
    cells = [
        CellOrder(cell_id=f"c1:{n}", series_id=f"s1:{n}", suite=suite)
        for n, suite in enumerate(suites)
    ]
    return order.model_copy(update={"cells": tuple(cells)})


@pytest.fixture(scope="module")
def frozen(make_order: OrderMaker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two suites frozen in one load: the root, its rows, and the stages that were worked on."""
    forced = [
        Case(id=f"logits/{n}", stage="logits", messages=_asked(text), max_tokens=10 + n)
        for n, text in enumerate(TEXTS)
    ]
    long = Case(id="logits/long", stage="logits", text=LONG)
    chats = [Case(id=f"chain/{n}", stage="chain", messages=_asked(t)) for n, t in enumerate(TEXTS)]
    stop = Case(id="stop/eos", stage="stop", script=Script(text="Hello 12", eos=1, after=" no"))
    suites = (_suite("forced", *forced, long), _suite("chats", *chats, stop))
    root, heard = str(tmp_path_factory.mktemp("frozen")), list[str]()

    def listen(_order: WorkOrder, event: Event) -> None:
        if isinstance(event, StageStarted):
            heard.append(event.stage)

    written = freeze([_order(make_order, *suites)], root, listen)
    rows = [row for path in written for row in pq.read_table(path).to_pylist()]
    return {"root": root, "suites": suites, "rows": rows, "heard": heard, "written": written}


def _row(frozen: dict[str, Any], case: str, probe: str) -> dict[str, Any]:
    (row,) = (r for r in frozen["rows"] if (r["case_id"], r["probe"]) == (case, probe))
    return row


def test_one_load_freezes_all_suites_each_in_a_file_of_its_own(frozen: dict[str, Any]) -> None:
    assert len(frozen["written"]) == 2
    assert frozen["heard"].count("load") == 1
    assert "answers" in frozen["heard"]


def test_a_candidate_that_asks_one_at_a_time_finds_the_same_numbers_and_answers(
    frozen: dict[str, Any], make_order: OrderMaker, tmp_path: Path
) -> None:
    order = _order(make_order, *frozen["suites"]).model_copy(
        update={"freeze": False, "references": (frozen["root"],), "golden_model": False}
    )
    assert [o.error for o in execute(order, str(tmp_path))] == [None, None]
    seen = [r for r in Store(str(tmp_path)).read(order.run_id, "traces") if r["case_digest"]]
    compared = 0
    for row in seen:
        if row["stage"] == "instrument":
            continue
        truth = _row(frozen, row["case_id"], row["probe"])
        for name in ("prompt_ids", "output_ids", "text", "finish_reason", "message"):
            assert row[name] == truth[name], (row["case_id"], row["probe"], name)
        if row["stage"] == "logits":
            assert len(row["tail_logprob"]) == len(truth["tail_logprob"])
            for ours, theirs in zip(
                row["ref_topk_logprobs"], truth["ref_topk_logprobs"], strict=True
            ):
                assert ours == pytest.approx(theirs, abs=1e-3)
            compared += 1
    assert compared == 2 * len(TEXTS) + 1


def test_a_long_case_keeps_its_informative_positions(frozen: dict[str, Any]) -> None:
    row = _row(frozen, "logits/long", "prefill")
    assert len(row["prompt_ids"]) > 193
    assert len(row["top_ids"]) == len(row["logprobs"]) == 192
    assert '"positions": [0, 1, 2' in row["value"]


def test_a_case_without_truth_leaves_the_other_suites_and_in_a_run_the_other_cases(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    good = Case(id="template/good", stage="template", messages=_asked("Hi"))
    bad = Case(id="template/bad", stage="template", messages=({"role": "user"},))
    order = _order(make_order, _suite("whole", good), _suite("broken", bad, good))
    with pytest.raises(NoTruth, match="template/bad"):
        freeze([order], str(tmp_path / "a"))
    assert [p.name.split("-")[2] for p in (tmp_path / "a").iterdir()] == ["whole"]
    with pytest.raises(NoTruth, match="template/bad"):
        freeze_missing([order], str(tmp_path / "b"))
    assert len(list((tmp_path / "b").iterdir())) == 2
