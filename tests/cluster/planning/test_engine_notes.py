"""Engines that a matrix asks for and this machine lacks are named before anything runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.matrix.resolve import resolve
from cluster.planning.engine_notes import engine_notes
from cluster.planning.node import Node
from cluster.planning.planner import make_plan

Write = Callable[[dict[str, Any] | str], Path]
NODE = Node(id="n", hardware={"cpu": "amd-epyc"}, cpus=2)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ({"engine": "llama_cpp", "version": "0.2.1"}, "version"),
        ({"engine": "llama_cpp"}, "engine"),
    ],
)
def test_a_version_that_is_not_installed_is_named_with_its_line_and_its_command(
    entry: dict[str, Any],
    key: str,
    right_matrix: dict[str, Any],
    write_matrix: Write,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", str(tmp_path / "none"))
    right_matrix["engines"] = [entry]
    (note,) = engine_notes(make_plan(resolve(write_matrix(right_matrix)), (NODE,)))
    assert f"engines[0].{key}: llama_cpp {entry.get('version', '')}".rstrip() in note
    assert "is not installed on this machine" in note
    assert "fleetqual engine install llama_cpp==" in note


@pytest.mark.parametrize(
    "entry",
    [
        {"engine": "llama_cpp", "python": "/nowhere/bin/python"},
        {"engine": "openai", "base_url": "http://127.0.0.1:1/v1", "passes": ["deployed"]},
    ],
)
def test_what_needs_no_environment_here_is_not_named(
    entry: dict[str, Any],
    right_matrix: dict[str, Any],
    write_matrix: Write,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", str(tmp_path / "none"))
    right_matrix["engines"] = [entry]
    assert engine_notes(make_plan(resolve(write_matrix(right_matrix)), (NODE,))) == []
