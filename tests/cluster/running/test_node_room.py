"""Several children share a node's CPU only where the options allow it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.running.dispatch import DispatchOptions
from cluster.running.node_room import has_room
from cluster.running.run import RunOptions, run_matrix
from tests.cluster.conftest import FakeSupervisor, order_of

Write = Callable[[dict[str, Any] | str], Path]


@pytest.mark.parametrize(
    ("slots", "cpus", "passes", "fits"),
    [
        (1, 2, ("structure", "structure"), False),
        (2, 2, ("structure", "deployed"), True),
        (2, 1, ("structure", "structure"), False),
        (2, 2, ("timed", "structure"), False),
        (2, 2, ("structure", "timed"), False),
    ],
)
def test_two_untimed_children_share_a_cpu_node_if_the_options_allow_it(
    right_matrix: dict[str, Any],
    write_matrix: Write,
    slots: int,
    cpus: int,
    passes: tuple[str, str],
    fits: bool,
) -> None:
    placed = order_of(right_matrix, write_matrix, cpus)
    running, waiting = (
        replace(placed, order=placed.order.model_copy(update={"pass_": p})) for p in passes
    )
    assert has_room(waiting, [running], slots) is fits
    engine = replace(waiting.order.engine, options={"n_threads": 2})
    threaded = replace(waiting, order=waiting.order.model_copy(update={"engine": engine}))
    assert not has_room(threaded, [running], slots)


def test_cells_of_a_run_may_share_the_cpu(
    right_matrix: dict[str, Any],
    write_matrix: Write,
    supervisor: FakeSupervisor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("cluster.running.run.ray_session", lambda *_: nullcontext())

    def note(_orders: object, options: DispatchOptions, _listener: object) -> list[Any]:
        seen.append(options.cpu_slots)
        return []

    monkeypatch.setattr("cluster.running.run.dispatch", note)
    right_matrix["engines"][0]["python"] = "python-of-the-matrix"
    request = RunOptions(
        matrix=write_matrix(right_matrix), results=str(tmp_path / "r"), cpu_slots=2
    )
    run_matrix(request, execute=supervisor)
    assert seen == [2]
