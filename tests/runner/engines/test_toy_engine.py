"""An engine is added as one folder and one line, a server as one file and one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from tests.paths import ROOT, TINY_CHAT

_TOY = Path(__file__).parent / "toy"
_SERVER = """
from runner.engines.servers.plain import Plain

class ToyServer(Plain):
    name = "toy-server"

DIALECT = ToyServer
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with a toy engine, a toy server, and a line for each."""
    root = tmp_path_factory.mktemp("project")
    for room in ("analysis", "cluster", "fleetqual", "runner"):
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "suites").symlink_to(ROOT / "suites")
    engines = root / "runner" / "engines"
    shutil.copytree(_TOY, engines / "toy", ignore=shutil.ignore_patterns("__pycache__"))
    (engines / "servers" / "toy_server.py").write_text(_SERVER, encoding="utf-8")
    registry = engines / "registry.py"
    text = registry.read_text(encoding="utf-8")
    for before, line in (
        ('    "mlx",\n', '    "toy",\n'),
        ('    "sglang",\n', '    "toy_server",\n'),
    ):
        assert text.count(before) == 1
        text = text.replace(before, before + line)
    registry.write_text(text, encoding="utf-8")
    return root


def _fleetqual(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleetqual", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _matrix(project: Path, **changes: Any) -> str:
    entry = {"engine": "toy", "python": sys.executable, "passes": ["structure"], **changes}
    body = {
        "name": "toys",
        "suites": ["smoke"],
        "models": [
            {
                "name": "tiny-chat",
                "hf": str(TINY_CHAT),
                "variants": [{"name": "f32", "hf": str(TINY_CHAT)}],
            }
        ],
        "engines": [{key: value for key, value in entry.items() if value is not None}],
        "backends": ["cpu"],
    }
    path = project / f"toys-{len(list(project.glob('toys-*')))}.yaml"
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return str(path)


def test_a_toy_engine_is_planned_run_and_its_traces_are_recorded(project: Path) -> None:
    results = project / "results"
    done = _fleetqual(project, "run", _matrix(project), "--results", str(results))
    assert done.returncode == 1, f"a toy is no language model:\n{done.stdout}{done.stderr}"
    (run,) = (results / "runs").iterdir()
    (attempt,) = pq.read_table(run / "attempts").to_pylist()
    assert (attempt["status"], attempt["engine_build"]) == ("ok", "toy build")
    traces = pq.read_table(run / "traces").to_pylist()
    seen = {t["stage"] for t in traces if t["observed"] == "path" and not t["error"]}
    assert {"template", "tokenize", "logits", "stop", "detokenize", "parse", "chain"} <= seen
    assert {t["observed"] for t in traces if t["stage"] == "config"} == {"hidden"}
    rendered = next(t["prompt_text"] for t in traces if t["stage"] == "template")
    assert rendered.startswith(("user: ", "system: "))


def test_its_options_are_checked_as_those_of_every_engine(project: Path) -> None:
    done = _fleetqual(project, "plan", _matrix(project, options={"tempr": 2}), "--json")
    assert done.returncode == 2
    assert "unknown toy option 'tempr'" in done.stderr
    assert "'temper'" in done.stderr


def test_a_fault_on_an_ability_that_it_lacks_is_refused(project: Path) -> None:
    fault = {"at": "sampling", "how": "top-k"}
    done = _fleetqual(project, "plan", _matrix(project, fault=fault))
    assert done.returncode == 2
    assert "which toy does not show when it is served as in_process" in done.stderr


def test_without_its_line_it_is_unknown(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetqual", "plan", _matrix(project)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown engine 'toy'" in done.stderr


def test_its_stages_are_listed_beside_those_of_the_others(project: Path) -> None:
    done = _fleetqual(project, "engine", "stages", "--json")
    rows = json.loads(done.stdout)
    assert {"toy", "mlx", "openai (toy-server)"} <= {row["engine"] for row in rows}


def test_a_toy_server_may_be_named_in_a_matrix(project: Path) -> None:
    server = {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "dialect": "toy-server"}
    server |= {"python": None, "passes": ["deployed"]}
    done = _fleetqual(project, "plan", _matrix(project, **server))
    assert done.returncode == 0, done.stderr
    unknown = _fleetqual(project, "plan", _matrix(project, **{**server, "dialect": "toy-servr"}))
    assert unknown.returncode == 2
    assert "unknown dialect 'toy-servr'" in unknown.stderr
    assert "did you mean 'toy-server'?" in unknown.stderr
