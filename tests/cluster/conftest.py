"""A matrix that is right, to be spoiled one key at a time; and a supervisor without an engine."""

import datetime as dt
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray.cloudpickle
import yaml

from cluster.matrix.resolve import resolve
from cluster.planning.node import Node
from cluster.planning.planner import make_plan
from cluster.running.orders import PlacedOrder, make_orders
from runner.order import WorkOrder
from runner.stored.store import Store, attempt_name
from runner.stored.tables import AttemptRow
from runner.supervisor import Outcome

# Ray's workers cannot import a conftest: what they need of it travels by value.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

MODEL = Path(__file__).parents[2] / "suites" / "models" / "tiny-chat"

SUITE = {
    "name": "mini",
    "version": 1,
    "requires": ["template", "tokenize"],
    "golden_for": "models/tiny-chat",
    "cases": [
        {
            "id": "template/hello",
            "stage": "template",
            "messages": [{"role": "user", "content": "Hello"}],
            "tags": ["greeting"],
        },
        {"id": "tokenize/spaces", "stage": "tokenize", "text": "a  b", "tags": ["whitespace"]},
    ],
}


def matrix() -> dict[str, Any]:
    """Return a right matrix over the shipped model's f32 file."""
    return {
        "name": "mini",
        "suites": ["mini.yaml"],
        "models": [
            {
                "name": "tiny-chat",
                "hf": str(MODEL),
                "variants": [
                    {"name": "f32", "gguf": str(MODEL / "tiny-chat-f32.gguf"), "margin": 1e-4}
                ],
            }
        ],
        "engines": [{"engine": "llama_cpp", "options": {"n_ctx": 1024}}],
        "backends": ["cpu"],
        "coverage": "each-node",
    }


class FakeSupervisor:
    """Stands in for ``runner.supervisor.execute``: commits attempts, but runs no engine.

    It obeys files in ``folder``: ``hang-<node>`` keeps that node busy, ``fail-<attempt>`` ends
    that attempt with an error; and it leaves ``started-<node>`` behind.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self, order: WorkOrder, results: str) -> list[Outcome]:
        folder = Path(self.folder)
        (folder / f"started-{order.node_id}").touch()
        while (folder / f"hang-{order.node_id}").exists():
            time.sleep(0.1)
        failing = (folder / f"fail-{order.attempt}").exists()
        status, error = ("error", "told to fail") if failing else ("ok", None)
        return [self._commit(order, c.cell_id, results, status, error) for c in order.cells]

    def _commit(
        self, order: WorkOrder, cell_id: str, results: str, status: str, error: str | None
    ) -> Outcome:
        keys: dict[str, Any] = {
            "cell_id": cell_id,
            "node_id": order.node_id,
            "attempt": order.attempt,
            "status": status,
            "error": error,
            "stage_reached": "parse",
            "duration_s": 0.1,
        }
        row = AttemptRow(
            run_id=order.run_id,
            started=dt.datetime.now(dt.UTC),
            hardware=order.hardware,
            engine_build=f"{order.engine.python} {os.getpid()}",
            **keys,
        )
        name = attempt_name(cell_id, order.node_id, order.attempt)
        Store(results).write(order.run_id, "attempts", name, [row])
        return Outcome(**keys)


@pytest.fixture
def right_matrix() -> dict[str, Any]:
    return matrix()


@pytest.fixture
def write_matrix(tmp_path: Path) -> Callable[[dict[str, Any] | str], Path]:
    """Write a matrix beside the suite ``mini.yaml``; return its path."""

    def write(content: dict[str, Any] | str) -> Path:
        (tmp_path / "mini.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
        path = tmp_path / "matrix.yaml"
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def supervisor(tmp_path: Path) -> FakeSupervisor:
    folder = tmp_path / "supervisor"
    folder.mkdir()
    return FakeSupervisor(folder)


@pytest.fixture
def exit_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process; return its exit code, stdout and stderr."""
    import fleetqual

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            fleetqual.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def order_of(
    matrix: dict[str, Any], write: Callable[[dict[str, Any] | str], Path], cpus: int = 1
) -> PlacedOrder:
    """Return the only work order of a matrix in the structure pass, on a node with CPUs."""
    matrix["engines"][0]["passes"] = ["structure"]
    plan = make_plan(
        resolve(write(matrix)), (Node(id="n", hardware={"cpu": "amd-epyc"}, cpus=cpus),)
    )
    (placed,) = make_orders(plan, "run", "results")
    return placed
