"""A floor is measured over all of its configurations, in the environment that the matrix names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.matrix.resolve import resolve
from cluster.planning.plan import Plan
from cluster.planning.planner import make_plan
from cluster.reference.floor_matrices import benign_matrix, floors_of
from cluster.reference.floor_run import require_all
from cluster.running.run import FinishedRun
from runner.supervisor import Outcome
from suites.errors import UserError
from tests.cluster.planning.test_plan import node, resolved


@pytest.fixture
def plan() -> Plan:
    return make_plan(resolved(backends=["cpu"]), [node("a")])


def ended(plan: Plan, *statuses: str) -> FinishedRun:
    outcomes = tuple(
        Outcome(
            cell_id=pair.cell.cell_id,
            node_id="a",
            attempt=1,
            status=status,
            stage_reached=None,
            error="out of luck" if status != "ok" else None,
            duration_s=1.0,
        )
        for pair, status in zip(plan.pairs, statuses, strict=False)
    )
    return FinishedRun("r1", plan, outcomes)


def test_a_configuration_that_failed_is_named_and_not_dropped(plan: Plan) -> None:
    require_all(ended(plan, "ok", "ok"))
    with pytest.raises(UserError, match="did not end ok") as told:
        require_all(ended(plan, "ok", "timeout"))
    assert "llama_cpp timeout: out of luck" in str(told.value)
    with pytest.raises(UserError, match="did not end ok") as told:
        require_all(ended(plan, "ok"))
    assert "llama_cpp never ran" in str(told.value)


@pytest.mark.parametrize(("few", "count"), [(False, 20), (True, 5)])
def test_the_reference_engine_runs_in_the_version_that_the_matrix_names(
    few: bool,
    count: int,
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    tmp_path: Path,
) -> None:
    right_matrix["engines"].append({"engine": "transformers", "version": "5.1.0"})
    resolved = resolve(write_matrix(right_matrix))
    (floor,) = floors_of(resolved)
    made = benign_matrix(resolved, floor, tmp_path / "floors", few=few)
    entries = yaml.safe_load(made.read_text())["engines"]
    assert len(entries) == count
    assert {entry["version"] for entry in entries} == {"5.1.0"}
    assert {entry["options"]["dtype"] for entry in entries} == {"f32"}
