"""Placement, deadlines, lost nodes and resume on a simulated fleet of labelled Ray nodes."""

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from cluster.environments.interpreter import answered_version
from cluster.matrix.resolve import resolve
from cluster.planning.node import Node
from cluster.planning.planner import make_plan
from cluster.planning.ray_nodes import ray_nodes
from cluster.running.dispatch import DispatchOptions, dispatch
from cluster.running.orders import PlacedOrder, make_orders
from cluster.running.progress import show_progress
from cluster.running.ray_session import ray_session
from cluster.running.run import FinishedRun, RunOptions, run_matrix
from runner.model.artifact import model_digests
from runner.source_digest import source_digest
from runner.stored.store import Store
from runner.supervisor import Outcome
from suites.errors import UserError
from tests.cluster.conftest import FakeSupervisor
from tests.paths import TINY_CHAT

FLEET = {"epyc-1": "amd-epyc-9454", "epyc-2": "amd-epyc-9454", "xeon-1": "intel-xeon-8480"}


def labels(name: str) -> dict[str, str]:
    hardware = FLEET.get(name, "amd-epyc-9454")
    return {
        "fleetqual/node": name,
        "fleetqual/backend": "cpu",
        "fleetqual/hardware": hardware,
    }


@pytest.fixture(scope="module")
def fleet() -> Iterator[Cluster]:
    """A head that only coordinates, and three labelled nodes with one CPU each."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_AUTH_MODE", "disabled")
    # Real fleets are patient; a test wants to know within seconds that a node is gone.
    impatient = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "labels": labels("head"), "_system_config": impatient},
    )
    for name in FLEET:
        cluster.add_node(wait=False, num_cpus=1, labels=labels(name))
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    patch.undo()


@pytest.fixture
def matrix_path(
    right_matrix: dict[str, Any], write_matrix: Callable[[dict[str, Any] | str], Path]
) -> Path:
    right_matrix["exclude"] = [{"node": "head"}]
    # No interpreter is started by the fake; this one is found on every node.
    right_matrix["engines"][0]["python"] = "python-of-the-matrix"
    return write_matrix(right_matrix)


@pytest.fixture
def run_it(
    fleet: Cluster, matrix_path: Path, supervisor: FakeSupervisor, tmp_path: Path
) -> Callable[..., FinishedRun]:
    def run(**keys: Any) -> FinishedRun:
        request = {"matrix": matrix_path, "results": str(tmp_path / "r"), "address": fleet.address}
        return run_matrix(RunOptions(**{**request, **keys}), execute=supervisor)

    return run


def attempts(tmp_path: Path, run_id: str) -> list[dict[str, Any]]:
    return Store(str(tmp_path / "r")).read(run_id, "attempts")


def test_a_run_places_cells_by_label_and_leaves_everything_in_parquet(
    run_it: Callable[..., FinishedRun], tmp_path: Path, matrix_path: Path
) -> None:
    ran = run_it()
    rows = attempts(tmp_path, ran.run_id)
    assert Counter(row["node_id"] for row in rows) == dict.fromkeys(FLEET, 2)
    assert {row["status"] for row in rows} == {"ok"}
    assert {(r["node_id"], r["hardware"]) for r in rows} == set(FLEET.items())
    interpreter = str(matrix_path.parent / "python-of-the-matrix")
    assert {row["engine_build"].split()[0] for row in rows} == {interpreter}
    store = Store(str(tmp_path / "r"))
    plan = store.read(ran.run_id, "plan")
    assert {r["node_id"] for r in plan if r["reason"] is None} == set(FLEET)
    assert {r["node_id"]: r["reason"] for r in plan if r["reason"]} == {
        "head": "excluded by the matrix"
    }
    cases = store.read(ran.run_id, "cases")
    assert {c["case_id"] for c in cases} == {"template/hello", "tokenize/spaces"}
    assert {c["golden_weights_digest"] for c in cases} == {model_digests(TINY_CHAT)[0]}
    started, ended = sorted(store.read(ran.run_id, "runs"), key=lambda r: bool(r["finished"]))
    assert started["finished"] is None
    assert ended["finished"] >= ended["started"] == started["started"]
    config = json.loads(ended["config"])
    assert config["matrix"]["name"] == "mini"
    assert config["references"][0] == str(tmp_path / "r" / "references")
    assert source_digest() in ended["code_version"]


def test_what_ran_is_not_run_again_and_what_did_not_is(
    run_it: Callable[..., FinishedRun], tmp_path: Path
) -> None:
    first = run_it(run_id="r1")
    run = tmp_path / "r" / "runs" / "r1"
    (run / "runs" / "end.parquet").unlink()
    gone = next(run.glob("attempts/*"))
    kept = {p.name: p.stat().st_mtime_ns for p in run.glob("attempts/*") if p != gone}
    gone.unlink()
    again = run_it(resume=True)
    assert again.run_id == first.run_id
    assert len(again.outcomes) == 1
    assert gone.exists()
    assert {p.name: p.stat().st_mtime_ns for p in run.glob("attempts/*") if p != gone} == kept
    with pytest.raises(UserError, match="nothing to resume"):
        run_it(resume=True)
    with pytest.raises(UserError, match="exists already"):
        run_it(run_id="r1")


def test_resuming_another_plan_is_refused(
    run_it: Callable[..., FinishedRun],
    tmp_path: Path,
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
) -> None:
    run_it(run_id="r1", only="pass=deployed")
    with pytest.raises(UserError, match="another --only"):
        run_it(run_id="r1", resume=True, only="pass=structure")
    right_matrix["engines"][0]["options"]["n_ctx"] = 512
    write_matrix(right_matrix)
    with pytest.raises(UserError, match="cells gone: 1, cells new: 1"):
        run_it(run_id="r1", resume=True)
    assert len(attempts(tmp_path, "r1")) == 3


def test_only_what_failed_is_tried_again_under_the_next_number(
    run_it: Callable[..., FinishedRun],
    right_matrix: dict[str, Any],
    write_matrix: Callable[[dict[str, Any] | str], Path],
    supervisor: FakeSupervisor,
    tmp_path: Path,
) -> None:
    right_matrix |= {"tries": 3, "coverage": "any"}
    write_matrix(right_matrix)
    (Path(supervisor.folder) / "fail-1").touch()
    ran = run_it()
    rows = attempts(tmp_path, ran.run_id)
    assert Counter((r["attempt"], r["status"]) for r in rows) == {(1, "error"): 2, (2, "ok"): 2}


@pytest.fixture
def orders(matrix_path: Path, tmp_path: Path) -> Callable[[tuple[Node, ...]], list[PlacedOrder]]:
    def make(nodes: tuple[Node, ...]) -> list[PlacedOrder]:
        plan = make_plan(resolve(matrix_path), nodes)
        return make_orders(plan, "r1", str(tmp_path / "r"))

    return make


def shortened(placed: PlacedOrder, deadline_s: float) -> PlacedOrder:
    order = placed.order.model_copy(update={"deadline_s": deadline_s})
    return PlacedOrder(order, placed.node, placed.device)


def run_orders(
    orders: list[PlacedOrder],
    options: DispatchOptions,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    side = threading.Thread(target=meanwhile)
    side.start()
    try:
        with show_progress(len(orders)) as listener:
            return dispatch(orders, options, listener)
    finally:
        side.join()


def test_a_lost_node_loses_its_cells_only(
    fleet: Cluster,
    orders: Callable[[tuple[Node, ...]], list[PlacedOrder]],
    supervisor: FakeSupervisor,
    tmp_path: Path,
) -> None:
    doomed = fleet.add_node(num_cpus=1, labels=labels("doomed"))
    folder = Path(supervisor.folder)
    (folder / "hang-doomed").touch()

    def kill() -> None:
        ends = time.monotonic() + 30
        while not (folder / "started-doomed").exists() and time.monotonic() < ends:
            time.sleep(0.05)
        fleet.remove_node(doomed, allow_graceful=False)

    with ray_session(fleet.address):
        placed = orders(ray_nodes())
        options = DispatchOptions(str(tmp_path / "r"), tries=2, execute=supervisor)
        outcomes = run_orders(placed, options, kill)
    found = {node: {o.status for o in outcomes if o.node_id == node} for node in [*FLEET, "doomed"]}
    assert found == {**{name: {"ok"} for name in FLEET}, "doomed": {"lost"}}
    lost = [r for r in attempts(tmp_path, "r1") if r["status"] == "lost"]
    assert len(lost) == 2, "one was running and one was waiting for its turn"
    assert all("doomed" in row["error"] for row in lost)


def test_nothing_runs_in_the_name_of_a_node_that_is_gone(
    fleet: Cluster,
    orders: Callable[[tuple[Node, ...]], list[PlacedOrder]],
    supervisor: FakeSupervisor,
    tmp_path: Path,
) -> None:
    with ray_session(fleet.address):
        (placed,) = [p for p in orders(ray_nodes()) if p.node.id == "xeon-1"][:1]
        gone = Node(id="gone", alive=False, hardware={"cpu": "intel-xeon-8480"})
        nameless = gone.model_copy(update={"alive": True})
        full = placed.node.model_copy(update={"gpus": 0})
        cuda = placed.order.model_copy(update={"backend": "cuda"})
        lost = [
            PlacedOrder(placed.order, gone),
            PlacedOrder(placed.order.model_copy(update={"attempt": 2}), nameless),
            PlacedOrder(cuda.model_copy(update={"attempt": 3}), full),
        ]
        options = DispatchOptions(str(tmp_path / "r"), tries=3, execute=supervisor)
        outcomes = run_orders(lost, options)
    assert [o.status for o in outcomes] == ["lost"] * 3
    assert "no room for cuda work even when idle" in (outcomes[-1].error or "")
    assert not list(Path(supervisor.folder).glob("started-*"))


def test_a_loss_uses_up_no_try_but_does_not_go_on_for_ever(
    fleet: Cluster,
    orders: Callable[[tuple[Node, ...]], list[PlacedOrder]],
    supervisor: FakeSupervisor,
    tmp_path: Path,
) -> None:
    folder = Path(supervisor.folder)
    (folder / "hang-xeon-1").touch()
    (folder / "fail-3").touch()
    with ray_session(fleet.address):
        placed = next(shortened(p, 4.0) for p in orders(ray_nodes()) if p.node.id == "xeon-1")
        options = DispatchOptions(str(tmp_path / "r"), tries=2, grace_s=1.0, execute=supervisor)
        outcomes = run_orders([placed], options)
        assert [(o.attempt, o.status) for o in outcomes] == [(1, "lost"), (2, "lost")]
        (folder / "hang-xeon-1").unlink()
        order = placed.order.model_copy(update={"attempt": 3, "deadline_s": 60.0})
        outcomes = run_orders([PlacedOrder(order, placed.node)], options)
        assert [(o.attempt, o.status) for o in outcomes] == [(3, "error"), (4, "ok")]
        outcomes = run_orders([PlacedOrder(order, placed.node, tried=1)], options)
        assert [o.status for o in outcomes] == ["error"]


def test_a_labelled_node_tells_the_engines_that_it_has(
    fleet: Cluster, tmp_path: Path, supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ray_session(fleet.address):
        asked = [("llama_cpp", sys.executable), ("llama_cpp", str(tmp_path / "no-python"))]
        found = {n.id: n for n in ray_nodes(asked)}
    assert set(found) == {*FLEET, "head"}
    own = answered_version("llama_cpp", sys.executable)
    for n in found.values():
        assert n.engines == found["head"].engines
        assert n.versions_by_interpreter == ({sys.executable: {"llama_cpp": own}} if own else {})
    assert found["xeon-1"].hardware == {"cpu": "intel-xeon-8480"}


def test_a_run_killed_before_its_plan_was_written_can_be_started_again(
    run_it: Callable[..., FinishedRun], tmp_path: Path
) -> None:
    (tmp_path / "r" / "runs" / "r1" / "cases").mkdir(parents=True)
    with pytest.raises(UserError, match="without --resume"):
        run_it(run_id="r1", resume=True)
    assert run_it(run_id="r1", only="pass=deployed").run_id == "r1"


def test_what_is_never_placed_or_never_ends_is_lost_at_its_deadline(
    fleet: Cluster,
    orders: Callable[[tuple[Node, ...]], list[PlacedOrder]],
    supervisor: FakeSupervisor,
    tmp_path: Path,
) -> None:
    (Path(supervisor.folder) / "hang-xeon-1").touch()
    started = time.monotonic()
    with ray_session(fleet.address):
        placed = [shortened(p, 1.0) for p in orders(ray_nodes()) if p.node.id == "xeon-1"]
        # Ray waits without an end for a GPU that the node turns out not to have.
        promised = placed[0].node.model_copy(update={"gpus": 1})
        unplaced = placed[0].order.model_copy(update={"backend": "cuda"})
        options = DispatchOptions(str(tmp_path / "r"), grace_s=1.0, execute=supervisor)
        outcomes = run_orders([PlacedOrder(unplaced, promised)], options)
        assert {o.status for o in outcomes} == {"lost"}
        assert not (Path(supervisor.folder) / "started-xeon-1").exists()
        outcomes = run_orders([shortened(placed[1], 6.0)], options)
    assert (Path(supervisor.folder) / "started-xeon-1").exists()
    assert [o.status for o in outcomes] == ["lost"]
    assert "no answer from node xeon-1 within 7 s" in (outcomes[0].error or "")
    assert time.monotonic() - started < 40
    assert {r["status"] for r in attempts(tmp_path, "r1")} == {"lost"}


def test_a_node_without_labels_is_asked_what_it_is(fleet: Cluster) -> None:
    silent = fleet.add_node(num_cpus=1)
    with ray_session(fleet.address):
        found = {n.id: n for n in ray_nodes()}
    fleet.remove_node(silent)
    (extra,) = set(found) - set(FLEET) - {"head"}
    assert found[extra].alive
    assert found[extra].hardware["cpu"]
    assert list(found[extra].selector) == ["ray.io/node-id"]
    assert found["epyc-1"].selector == {"fleetqual/node": "epyc-1"}
    assert found["epyc-1"].hardware == {"cpu": "amd-epyc-9454"}
