"""References: found by the function, and files of earlier versions refused with what to do."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from runner.frozen_sets import show, verify
from runner.model.artifact import describe_variant
from runner.order import WorkOrder
from runner.stored.frozen_tables import ReferenceRow
from runner.stored.references import SHIPPED_REFERENCES, References
from runner.stored.store import Store
from runner.supervisor import execute
from suites.errors import UserError
from tests.paths import TINY_CHAT

OrderMaker = Callable[..., WorkOrder]
REMEDY = "make it again with `fleetqual reference freeze MATRIX`"


def _earlier(root: str, folder: Path) -> Path:
    """Return a copy of the references as an earlier version wrote them, without the function."""
    (path,) = Path(root).glob("*.parquet")
    folder.mkdir()
    pq.write_table(pq.read_table(path).drop_columns(["function_digest"]), folder / path.name)
    return folder


def test_only_the_function_s_own_truth_is_found(references: str, make_order: OrderMaker) -> None:
    order = make_order()
    (case,) = [c for c in order.cells[0].suite.cases if c.id == "logits/hello"]
    scaled = order.model.model_copy(update={"computation_digest": "cp1:scaled"})
    other = order.model_copy(update={"model": scaled})
    for asked, known in ((order, True), (other, False)):
        found = References(
            (references,), asked.reference_function, asked.model.tokenizer_digest
        ).find(case, "logits", "prefill")
        assert bool(found) is known


def test_what_is_shipped_is_of_the_shipped_model_s_functions(make_order: OrderMaker) -> None:
    model = make_order().model
    q8_0 = describe_variant(TINY_CHAT / "tiny-chat-q8_0.gguf", "gguf")[2]
    own = {model.function_over(weights) for weights in (model.weights_digest, q8_0)}
    for folder in (SHIPPED_REFERENCES, SHIPPED_REFERENCES / "floors"):
        tables = [pq.read_table(path, columns=["function_digest"]) for path in folder.glob("*.p*")]
        assert {name for table in tables for name in table["function_digest"].to_pylist()} == own


def test_an_earlier_file_is_refused_and_the_others_are_used(
    references: str, make_order: OrderMaker, tmp_path: Path
) -> None:
    folder, order = _earlier(references, tmp_path / "earlier"), make_order()
    case = order.cells[0].suite.cases[0]
    asked = (order.reference_function, order.model.tokenizer_digest)
    alone = References((str(folder),), *asked)
    assert alone.find(case, "template", "isolate") == {}
    assert alone.refused is not None
    assert REMEDY in alone.refused
    both = References((str(folder), references), *asked)
    assert both.find(case, "template", "isolate") != {}
    assert References((references,), *asked).refused is None


def test_verify_and_show_name_an_earlier_file_and_the_command(
    references: str, tmp_path: Path
) -> None:
    folder = _earlier(references, tmp_path / "earlier")
    (problem,) = verify([str(folder)])
    assert REMEDY in problem
    with pytest.raises(UserError, match=REMEDY):
        show([str(folder)])


def test_an_earlier_floor_is_named_with_its_own_command(tmp_path: Path) -> None:
    shipped, floors = min(SHIPPED_REFERENCES.glob("floors/*.parquet")), tmp_path / "floors"
    floors.mkdir()
    table = pq.read_table(shipped).drop_columns(["function_digest"])
    pq.write_table(table, floors / shipped.name)
    assert any("`fleetqual reference floors MATRIX`" in p for p in verify([str(tmp_path)]))


def test_an_attempt_says_why_its_cases_have_no_truth(
    references: str, make_order: OrderMaker, tmp_path: Path
) -> None:
    folder = _earlier(references, tmp_path / "earlier")
    order, results = make_order(references=(str(folder),)), str(tmp_path / "results")
    execute(order, results)
    missed = {
        row["case_id"]: row["error"]
        for row in Store(results).read(order.run_id, "traces")
        if row["stage"] == "logits"
    }
    assert set(missed) == {"logits/hello", "logits/text"}
    assert all(REMEDY in error for error in missed.values())


def test_of_two_sets_with_one_case_the_newer_is_the_truth(
    references: str, make_order: OrderMaker, tmp_path: Path
) -> None:
    (path,) = Path(references).glob("*.parquet")
    rows = pq.read_table(path).to_pylist()
    for name, days, text in (("a", 1, "newer"), ("b", -1, "older"), ("c", 0, "first")):
        changed = [
            ReferenceRow(
                **(r | {"created": r["created"] + dt.timedelta(days=days), "prompt_text": text})
            )
            for r in rows
        ]
        Store(str(tmp_path)).write_to(f"{name}.parquet", changed, ReferenceRow)
    order = make_order()
    (case,) = [c for c in order.cells[0].suite.cases if c.id == "template/hello"]
    digests = (order.reference_function, order.model.tokenizer_digest)
    found = References((str(tmp_path), references), *digests).find(case, "template", "isolate")
    assert found["prompt_text"] == "newer"
    found = References((references, str(tmp_path)), *digests).find(case, "template", "isolate")
    assert found["prompt_text"] not in ("newer", "older", "first")
