"""What a plan lacks is found by digest: references case by case, floors by function and dtype."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.matrix.resolve import GoldenTruth, Resolved, ResolvedSuite
from cluster.planning.plan import Plan
from cluster.planning.planner import make_plan
from cluster.planning.selection import parse_selection
from cluster.reference.freeze_orders import estimate_s
from cluster.reference.missing import missing_references, no_truth_over
from cluster.reference.missing_floors import floor_cases, missing_floors
from runner.engines.declaration import Declaration
from runner.engines.registry import DECLARATIONS
from runner.stored.frozen_tables import FloorRow, ReferenceRow
from runner.stored.store import Store
from suites.suite import Case, Suite
from tests.cluster.planning.test_plan import node, resolved

ASKED = ({"role": "user", "content": "Hi"},)
TEMPLATE = Case(id="template/a", stage="template", messages=ASKED)
FORCED = Case(id="logits/a", stage="logits", messages=ASKED)
LONG = Case(id="logits/b", stage="logits", text="word " * 40)


def suite(*cases: Case, golden: GoldenTruth | None = None) -> ResolvedSuite:
    made = Suite(name="one", version=1, requires=("template",), cases=cases)
    return ResolvedSuite("one", made, golden)


def planned(
    *cases: Case, golden: GoldenTruth | None = None, only: str | None = None, **keys: Any
) -> Plan:
    found: Resolved = resolved(suites=[suite(*cases, golden=golden)], backends=["cpu"], **keys)
    return make_plan(found, [node("a")], parse_selection(only))


def freeze(root: Path, case: Case, weights: str = "w1:0") -> None:
    model = resolved().models[0].model
    row = ReferenceRow(
        reference_id="r1:0",
        function_digest=model.function_over(weights),
        weights_digest=weights,
        tokenizer_digest=model.tokenizer_digest,
        model="m",
        variant="v",
        suite="one",
        engine="transformers",
        engine_version="1",
        compute_dtype="f32",
        created=dt.datetime.now(dt.UTC),
        case_id=case.id,
        case_digest=case.digest,
        stage=case.stage,
        probe="isolate",
    )
    name = case.digest.replace(":", "-")
    Store(str(root)).write_to(f"{name}-{weights[3:]}.parquet", [row], ReferenceRow)


def wanted(plan: Plan, root: Path) -> list[tuple[str, dict[str, tuple[str, ...]]]]:
    return [(each.title, each.cases) for each in missing_references(plan, [str(root)])]


def test_a_suite_that_was_never_frozen_is_wanted_whole(tmp_path: Path) -> None:
    plan = planned(TEMPLATE, FORCED)
    assert wanted(plan, tmp_path) == [("tiny/own weights", {"one": ()})]
    (each,) = missing_references(plan, [str(tmp_path)])
    assert estimate_s(plan.resolved, each) > 0


def test_a_new_case_asks_for_itself_only_and_nothing_is_wanted_twice(tmp_path: Path) -> None:
    plan = planned(TEMPLATE, FORCED)
    freeze(tmp_path, TEMPLATE)
    assert wanted(plan, tmp_path) == [("tiny/own weights", {"one": ("logits/a",)})]
    freeze(tmp_path, FORCED)
    assert wanted(plan, tmp_path) == []


def test_what_has_a_golden_answer_or_is_not_selected_is_not_wanted(tmp_path: Path) -> None:
    golden = GoldenTruth("w1:0")
    assert wanted(planned(TEMPLATE, golden=golden), tmp_path) == []
    assert wanted(planned(TEMPLATE, FORCED, golden=golden), tmp_path)[0][1] == {"one": ()}
    assert wanted(planned(TEMPLATE, FORCED, only="stage=template"), tmp_path)[0][1] == {
        "one": ("template/a",)
    }


def test_a_quantised_variant_is_frozen_over_its_own_weights(tmp_path: Path) -> None:
    plan = planned(FORCED, names=("f16", "q8_0"))
    assert [title for title, _ in wanted(plan, tmp_path)] == ["tiny/own weights", "tiny/q8_0"]
    freeze(tmp_path, FORCED)
    assert [title for title, _ in wanted(plan, tmp_path)] == ["tiny/q8_0"]
    freeze(tmp_path, FORCED, "w1:q8_0")
    assert wanted(plan, tmp_path) == []


def test_weights_that_cannot_be_dequantised_are_named_and_left_out() -> None:
    plan = planned(FORCED, names=("q8_0",))
    packed = plan.pairs[0].cell.variant.variant.model_copy(
        update={"format": "hf", "weights_type": "awq"}
    )
    assert no_truth_over(packed) == "awq weights cannot be dequantised yet"
    assert no_truth_over(None) is None


def floor(root: Path, weights: str, dtype: str) -> None:
    model = resolved().models[0].model
    row = FloorRow(
        floor_id="f1:0",
        function_digest=model.function_over(weights),
        weights_digest=weights,
        tokenizer_digest=model.tokenizer_digest,
        suite="one",
        compute_dtype=dtype,
        backend="cpu",
        probe="prefill",
        engine="transformers",
        engine_version="1",
        configuration="{}",
        mean_kl=1e-12,
        max_kl=1e-12,
        positions=1,
        flips=0,
        max_flip_margin=0.0,
        created=dt.datetime.now(dt.UTC),
    )
    Store(str(root)).write_to(f"floors/{weights[3:]}-{dtype}.parquet", [row], FloorRow)


def test_a_floor_is_missing_for_each_function_and_dtype_that_the_cells_compute(
    tmp_path: Path,
) -> None:
    plan = planned(FORCED, names=("f32", "f16", "q8_0"))
    found = {f.title for f in missing_floors(plan, [str(tmp_path)])}
    assert found == {"tiny in f32", "tiny in f16", "tiny/q8_0 in q8_0"}
    floor(tmp_path, "w1:q8_0", "Q8_0")
    floor(tmp_path, "w1:0", "f32")
    assert {f.title for f in missing_floors(plan, [str(tmp_path)])} == {"tiny in f16"}
    assert missing_floors(planned(TEMPLATE), [str(tmp_path)]) == []


def test_floors_are_measured_on_cases_of_every_length() -> None:
    cases = [FORCED.model_copy(update={"id": f"logits/{n:02}"}) for n in range(30)]
    taken = floor_cases(planned(*cases, LONG))
    assert taken is not None
    assert 5 < len(taken[1]) <= 12
    assert len(set(taken[1])) == len(taken[1])
    assert floor_cases(planned(TEMPLATE)) is None


def test_estimates_grow_with_what_is_asked(tmp_path: Path) -> None:
    seconds = []
    for cases in ((TEMPLATE,), (TEMPLATE, FORCED), (TEMPLATE, FORCED, LONG)):
        plan = planned(*cases)
        (each,) = missing_references(plan, [str(tmp_path)])
        seconds.append(estimate_s(plan.resolved, each))
    assert seconds == sorted(seconds)


def test_the_reference_s_lacking_stages_are_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(TEMPLATE, FORCED)
    shown = "cluster.reference.missing.DECLARATIONS"
    declared = _declared_without_logits()
    monkeypatch.setattr(shown, {"transformers": declared})
    assert wanted(plan, tmp_path)[0][1] == {"one": ()}
    freeze(tmp_path, TEMPLATE)
    assert wanted(plan, tmp_path) == []


def _declared_without_logits() -> Declaration:
    own = DECLARATIONS["transformers"]
    stages = {**own.shown.stages, "logits": "absent"}
    return replace(own, shown=replace(own.shown, stages=stages))
