"""What a run left in Parquet decides what runs next, and where."""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.matrix.engine_entry import EngineEntry
from cluster.planning.plan import Plan
from cluster.planning.planner import make_plan
from cluster.reference.freeze_orders import freeze_orders
from cluster.running.on_node import record_unrun_attempts, relocated, run_on_node
from cluster.running.orders import key_of, make_orders
from cluster.running.resume import StoredRun, find_unfinished, resumed_plan
from cluster.running.run_lock import exclusive_run
from runner.order import WorkOrder
from runner.stored.store import Store
from runner.stored.tables import RunRow
from suites.errors import UserError
from tests.cluster.conftest import FakeSupervisor
from tests.cluster.planning.test_plan import node, resolved, where
from tests.paths import ROOT

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOME = [node("a")]


def stored(plan: Plan, *attempts: tuple[int, int, str]) -> StoredRun:
    """Return a run of ``plan`` with attempts given as (pair, number, status)."""
    rows = tuple({**r.model_dump(), "pass": r.pass_} for r in plan.rows("r1"))
    tried = tuple(
        {
            "cell_id": key_of(plan.pairs[pair])[0],
            "node_id": key_of(plan.pairs[pair])[1],
            "attempt": number,
            "status": status,
        }
        for pair, number, status in attempts
    )
    matrix = plan.resolved.matrix.model_dump(mode="json", by_alias=True)
    return StoredRun("r1", NOW, {"matrix": matrix}, rows, tried)


@pytest.fixture
def plan() -> Plan:
    return make_plan(resolved(backends=["cpu"], coverage="each-hardware"), HOME)


def test_ok_is_final_a_failure_uses_up_its_tries_and_a_loss_does_not(plan: Plan) -> None:
    first, second = (key_of(p) for p in plan.pairs)
    run = stored(plan, (0, 1, "crashed"), (0, 2, "ok"), (1, 1, "lost"), (1, 2, "lost"))
    assert run.next_attempts(plan, tries=1) == {first: 0, second: 3}
    run = stored(plan, (0, 1, "crashed"), (1, 1, "lost"), (1, 2, "error"))
    assert run.next_attempts(plan, tries=1) == {first: 0, second: 0}
    assert run.next_attempts(plan, tries=2) == {first: 2, second: 3}
    (placed,) = make_orders(plan, "r1", "/r", {first: 0, second: 3}, run.tried(plan))
    assert (placed.order.attempt, placed.tried) == (3, 1)


def test_pairs_stay_where_they_were(plan: Plan) -> None:
    fresh = make_plan(resolved(backends=["cpu"], coverage="each-hardware"), [node("0"), *HOME])
    assert where(fresh) != where(plan)
    assert where(resumed_plan(fresh, stored(plan), [node("0"), *HOME])) == where(plan)


def test_what_a_lost_node_left_undone_moves_to_equal_hardware(plan: Plan) -> None:
    assert where(plan) == ["a", "a"]
    nodes = [node("b"), node("c", hardware={"cpu": "other"})]
    fresh = make_plan(plan.resolved, nodes)
    assert where(resumed_plan(fresh, stored(plan), nodes)) == ["b", "b"]
    assert where(resumed_plan(fresh, stored(plan, (0, 1, "ok")), nodes)) == ["a", "b"]


def test_what_only_the_lost_node_could_do_stays_its_own(plan: Plan) -> None:
    nodes = [node("c", hardware={"cpu": "other"})]
    again = resumed_plan(make_plan(plan.resolved, nodes), stored(plan), nodes)
    assert where(again) == ["a", "a"]
    assert not any(p.node and p.node.alive for p in again.pairs)


def test_another_engine_version_is_another_plan(plan: Plan) -> None:
    nodes = [node("a", engines={"llama_cpp": "9.9"})]
    with pytest.raises(UserError, match="cells gone: 2, cells new: 2"):
        resumed_plan(make_plan(plan.resolved, nodes), stored(plan), nodes)


def test_the_rest_goes_on_when_the_only_node_of_a_backend_died() -> None:
    had = [node("a", engines={"llama_cpp": "1.0"}), node("g", "cuda", engines={"llama_cpp": "1.0"})]
    plan = make_plan(resolved(backends=["cuda", "cpu"], coverage="each-hardware"), had)
    assert where(plan) == ["a", "a", "g", "g"]
    fresh = make_plan(plan.resolved, had[:1])
    again = resumed_plan(fresh, stored(plan), had[:1])
    assert {key_of(p) for p in again.pairs} == {key_of(p) for p in plan.pairs}
    undone = [p for p in again.pairs if p.node and not p.node.alive]
    assert [p.node_id for p in undone] == ["g", "g"]
    rows = again.rows("r1")
    assert len({(r.cell_id, r.node_id) for r in rows}) == len(rows)
    assert not {r.series_id for r in rows if r.reason} & {p.cell.series_id for p in undone}
    # Once more, from what the first resumption wrote down; and the node is back.
    twice = resumed_plan(fresh, stored(again), had[:1])
    assert {key_of(p) for p in twice.pairs} == {key_of(p) for p in plan.pairs}
    back = resumed_plan(make_plan(plan.resolved, had), stored(again), had)
    assert where(back) == ["a", "a", "g", "g"]
    assert all(p.node and p.node.alive and p.cell.version for p in back.pairs)


def test_what_a_dead_node_had_moves_only_to_the_same_engine_version() -> None:
    had = node("a", engines={"llama_cpp": "1.0"})
    plan = make_plan(resolved(backends=["cpu"], coverage="each-hardware"), [had])
    for version, expected in (("1.0", ["b", "b"]), ("2.0", ["a", "a"])):
        nodes = [node("b", engines={"llama_cpp": version})]
        again = resumed_plan(make_plan(plan.resolved, nodes), stored(plan), nodes)
        assert where(again) == expected


def test_a_changed_matrix_is_told_even_if_the_node_is_gone() -> None:
    had = node("a", engines={"llama_cpp": "1.0"})
    engines = [EngineEntry(engine="llama_cpp", options={"n_ctx": 512})]
    plan = make_plan(resolved(backends=["cpu"]), [had])
    fresh = make_plan(resolved(backends=["cpu"], engines=engines), [])
    with pytest.raises(UserError, match="cells gone: 2"):
        resumed_plan(fresh, stored(plan), [])


def test_another_configuration_of_the_model_is_another_plan(plan: Plan) -> None:
    (model,) = plan.resolved.models
    scaled = model.model.model_copy(update={"computation_digest": "cp1:scaled"})
    changed = replace(plan.resolved, models=(replace(model, model=scaled),))
    for nodes in (HOME, []):
        with pytest.raises(UserError, match="cells gone: 2"):
            resumed_plan(make_plan(changed, nodes), stored(plan), nodes)


def begin(store: Store, run_id: str, started: dt.datetime, finished: bool = False) -> None:
    row = RunRow(run_id=run_id, config="{}", code_version="0", started=started)
    store.write(run_id, "runs", "start", [row])
    if finished:
        store.write(run_id, "runs", "end", [row.model_copy(update={"finished": started})])


def test_the_last_begun_unfinished_run_is_resumed_whatever_runs_are_called(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    begin(store, "zeta", NOW)
    begin(store, "20260102-000000-abcd", NOW + dt.timedelta(days=1))
    begin(store, "alpha", NOW + dt.timedelta(days=2), finished=True)
    (tmp_path / "runs" / "zzz" / "plan").mkdir(parents=True)
    assert find_unfinished(store, None) == "20260102-000000-abcd"


def test_a_run_that_another_process_drives_is_left_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with (
        exclusive_run(store, "r1"),
        pytest.raises(UserError, match=f"process {os.getpid()} is running"),
        exclusive_run(store, "r1"),
    ):
        pytest.fail("two drivers")
    with exclusive_run(store, "r1"):
        pass
    driver = (
        "import time, sys; from cluster.running.run_lock import exclusive_run as only\n"
        "from runner.stored.store import Store\n"
        f"with only(Store({str(tmp_path)!r}), 'r1'):\n    print('held', flush=True); time.sleep(60)"
    )
    root = ROOT
    child = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, cwd=root)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with (
        pytest.raises(UserError, match=f"process {child.pid} is running"),
        exclusive_run(store, "r1"),
    ):
        pytest.fail("two drivers")
    child.kill()
    child.communicate()
    with exclusive_run(store, "r1"):
        pass


@pytest.fixture
def order(plan: Plan, tmp_path: Path) -> WorkOrder:
    return make_orders(plan, "r1", str(tmp_path))[0].order


def test_a_node_without_the_engine_s_environment_is_an_attempt_that_says_so(
    order: WorkOrder, supervisor: FakeSupervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", str(tmp_path / "none"))
    (outcome,) = run_on_node(supervisor, order, str(tmp_path), None, "/elsewhere")
    (row,) = Store(str(tmp_path)).read("r1", "attempts")
    assert outcome.status == row["status"] == "error"
    assert "a has no environment for llama_cpp" in row["error"]
    assert "fleetqual engine install llama_cpp==" in row["error"]


def test_what_a_node_recorded_after_all_is_not_overwritten(
    order: WorkOrder, supervisor: FakeSupervisor, tmp_path: Path
) -> None:
    supervisor(order, str(tmp_path))
    (outcome,) = record_unrun_attempts(order, str(tmp_path), "lost", "gave up")
    assert outcome.status == "ok"
    assert [r["status"] for r in Store(str(tmp_path)).read("r1", "attempts")] == ["ok"]


def test_shipped_files_are_read_from_the_copy_on_the_node(order: WorkOrder) -> None:
    update = {"references": ("/here/references", "s3://bucket/references", "/mine")}
    model = order.model.model_copy(update={"hf": Path("/here/models/tiny")})
    moved = relocated(
        order.model_copy(update={**update, "model": model}), Path("/here"), Path("/there")
    )
    assert moved.model.hf == Path("/there/models/tiny")
    assert moved.variant.path == order.variant.path
    assert moved.references == ("/there/references", "s3://bucket/references", "/mine")


def test_a_matrix_is_frozen_over_its_model_and_each_quantised_variant(
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", str(tmp_path / "none"))
    path = write_matrix(right_matrix)
    with pytest.raises(UserError, match="transformers is not installed here"):
        freeze_orders(path)
    python = tmp_path / "none" / "transformers-1.0" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (order,), _ = freeze_orders(path)
    assert order.freeze
    assert order.golden_model
    assert (order.engine.engine, order.engine.python) == ("transformers", str(python))
    assert (order.variant.format, order.variant.weights_type) == ("hf", "f32")
    assert order.variant.weights_digest == order.model.weights_digest
