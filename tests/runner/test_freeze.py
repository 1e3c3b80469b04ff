"""Frozen sets: found again whatever the model is called, whole, and known by what they hold."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import suites
from runner import recording
from runner.freeze import freeze
from runner.frozen_sets import show, verify
from runner.order import CellOrder, WorkOrder
from runner.stored.frozen_tables import FloorRow, ReferenceRow
from runner.stored.references import References
from runner.stored.store import Store
from suites.errors import UserError
from suites.suite import Case, Suite

OrderMaker = Callable[..., WorkOrder]
SHIPPED = Path(suites.__file__).parent / "references"
HELLO = Case(id="template/hello", stage="template", messages=({"role": "user", "content": "Hi"},))


def _order(
    make_order: OrderMaker, *, model: str = "m", variant: str = "v", case: Case = HELLO
) -> WorkOrder:
    order = make_order("transformers", freeze=True)
    suite = Suite(name="one", version=1, requires=("template",), cases=(case,))
    return order.model_copy(
        update={
            "model": order.model.model_copy(update={"name": model}),
            "variant": order.variant.model_copy(update={"name": variant}),
            "cells": (CellOrder(cell_id="c1:1", series_id="s1:1", suite=suite),),
        }
    )


def test_any_model_s_name_makes_one_file_that_is_found_and_replaced(
    make_order: OrderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = _order(make_order, model="org/name@commit")
    written = freeze([order], str(tmp_path))
    # The engine has shown what it answers; the second time it need not be started for it.
    rows = [ReferenceRow(**row) for row in pq.read_table(written[0]).to_pylist()]
    monkeypatch.setattr(
        "runner.freeze._frozen_cells", lambda order, _: [(order.cells[0], rows, None)]
    )
    assert written == freeze([order], str(tmp_path))
    (path,) = tmp_path.iterdir()
    assert [str(path)] == written
    assert path.name.startswith("org_name_commit-v-one-")
    found = References((str(tmp_path),), order.reference_function, order.model.tokenizer_digest)
    assert "Hi" in found.find(HELLO, "template", "isolate")["prompt_text"]
    assert [row["model"] for row in show([str(tmp_path)])] == ["org/name@commit"]
    assert verify([str(tmp_path)]) == []


def test_two_sets_never_share_a_file(
    make_order: OrderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ReferenceRow(**pq.read_table(_one(SHIPPED, "*-sampling-*")).to_pylist()[0])]
    monkeypatch.setattr(
        "runner.freeze._frozen_cells", lambda order, _: [(order.cells[0], rows, None)]
    )
    orders = [
        _order(make_order, model="a", variant="b-c"),
        _order(make_order, model="a-b", variant="c"),
        _other_weights(_order(make_order, model="a-b", variant="c")),
        _other_computation(_order(make_order, model="a-b", variant="c")),
        _other_tokenizer(_order(make_order, model="a-b", variant="c")),
    ]
    assert len(set(freeze(orders, str(tmp_path)))) == len(orders)


def _other_weights(order: WorkOrder) -> WorkOrder:
    model = order.model.model_copy(update={"weights_digest": "w1:other"})
    return order.model_copy(update={"model": model})


def _other_computation(order: WorkOrder) -> WorkOrder:
    model = order.model.model_copy(update={"computation_digest": "cp1:other"})
    return order.model_copy(update={"model": model})


def _other_tokenizer(order: WorkOrder) -> WorkOrder:
    model = order.model.model_copy(update={"tokenizer_digest": "t1:other"})
    return order.model_copy(update={"model": model})


def test_a_case_without_its_truth_is_named(make_order: OrderMaker, tmp_path: Path) -> None:
    case = Case(id="template/broken", stage="template", messages=({"role": "user"},))
    with pytest.raises(UserError, match=r"1 cases have no truth \(template/broken\)"):
        freeze([_order(make_order, case=case)], str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_stage_that_the_engine_lacks_is_no_gap(
    make_order: OrderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = recording.AttemptRecord.loaded

    def lacking(record: recording.AttemptRecord, shown: dict[str, str]) -> None:
        told(record, {**shown, "template": "absent"})

    monkeypatch.setattr(recording.AttemptRecord, "loaded", lacking)
    (path,) = freeze([_order(make_order)], str(tmp_path))
    assert [row["stage"] for row in pq.read_table(path).to_pylist()] == ["template"]
    assert verify([str(tmp_path)]) == []


def test_packed_weights_are_refused_before_anything_runs(
    make_order: OrderMaker, tmp_path: Path
) -> None:
    folder = tmp_path / "awq"
    folder.mkdir()
    (folder / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    order = _order(make_order, variant="awq")
    packed = order.variant.model_copy(update={"path": folder, "weights_type": "awq"})
    with pytest.raises(UserError, match="cannot dequantise awq yet"):
        freeze([order.model_copy(update={"variant": packed})], str(tmp_path / "out"))


# What is shipped, and what verify finds


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """Two small sets and the floors: what one changed row does is the same in any set."""
    root = tmp_path / "references"
    shutil.copytree(SHIPPED / "floors", root / "floors")
    for path in SHIPPED.glob("*-sampling-*.parquet"):
        shutil.copy(path, root)
    return root


def _one(folder: Path, pattern: str) -> Path:
    return min(folder.glob(pattern))


def _change(path: Path, row: type, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    rows = [edit(r) for r in pq.read_table(path).to_pylist()]
    Store(str(path.parent)).write_to(path.name, [row(**r) for r in rows], row)


def test_what_is_shipped_is_intact() -> None:
    assert verify([str(SHIPPED)]) == []
    assert {row["variant"] for row in show([str(SHIPPED)])} == {"f32", "q8_0"}


@pytest.mark.parametrize(
    "changed",
    [
        *("function_digest", "weights_digest", "tokenizer_digest", "suite", "engine"),
        *("engine_version", "compute_dtype", "prompt_text", "value"),
    ],
)
def test_a_changed_reference_is_found(shipped: Path, changed: str) -> None:
    _change(_one(shipped, "*q8_0*"), ReferenceRow, lambda r: r | {changed: "other"})
    (problem,) = verify([str(shipped)])
    assert "were changed" in problem


def test_a_new_name_changes_nothing(shipped: Path) -> None:
    _change(_one(shipped, "*q8_0*"), ReferenceRow, lambda r: r | {"model": "renamed"})
    assert verify([str(shipped)]) == []


def test_a_row_that_is_gone_is_found(shipped: Path) -> None:
    path = _one(shipped, "*f32*")
    pq.write_table(pq.read_table(path).slice(1), path)
    assert "were changed" in verify([str(shipped)])[0]


@pytest.mark.parametrize("value", [0.5, float("nan")])
def test_a_changed_floor_is_found(shipped: Path, value: float) -> None:
    path = _one(shipped, "floors/*f16*")
    _change(path, FloorRow, lambda r: r | {"mean_kl": value})
    (problem,) = verify([str(shipped)])
    assert path.name in problem


@pytest.mark.parametrize("folder", [".", "floors"])
def test_a_foreign_file_is_a_problem_that_is_named(shipped: Path, folder: str) -> None:
    pq.write_table(pa.table({"x": [1]}), shipped / folder / "foreign.parquet")
    (problem,) = verify([str(shipped)])
    assert "foreign.parquet" in problem
    assert "is missing" in problem


def test_a_foreign_file_stops_its_reader_with_its_name(shipped: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), shipped / "foreign.parquet")
    with pytest.raises(UserError, match=r"foreign\.parquet"):
        References((str(shipped),), "fn1:x", "t1:x")
    with pytest.raises(UserError, match=r"foreign\.parquet"):
        show([str(shipped)])


def test_a_damaged_file_is_a_problem(shipped: Path) -> None:
    path = _one(shipped, "*f32*")
    path.write_bytes(path.read_bytes()[:-20])
    assert path.name in verify([str(shipped)])[0]


def test_nothing_at_all_is_not_intact(tmp_path: Path, shipped: Path) -> None:
    assert "nothing was verified" in verify([str(tmp_path / "empty")])[0]
    assert "nothing was verified" in verify([])[0]
    assert verify([str(tmp_path / "empty"), str(shipped)]) == []


def test_a_file_without_rows_is_a_problem(shipped: Path) -> None:
    path = _one(shipped, "*f32*")
    Store(str(shipped)).write_to(path.name, [], ReferenceRow)
    assert "holds no rows" in verify([str(shipped)])[0]
