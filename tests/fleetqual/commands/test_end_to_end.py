"""Whole runs through the command line, on the real engine: what users see when things go wrong."""

import csv
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.command import COMMAND, FEW, SMOKE, fleetqual, matrix, query, with_engines
from tests.engines import environments_of, failing_llama_cpp
from tests.paths import ROOT, TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
OPTIONS = yaml.safe_load(SMOKE.read_text())["engines"][0]["options"]


def _engine(name: str, **more: Any) -> dict[str, Any]:
    return {
        "engine": "llama_cpp",
        "name": name,
        "passes": ["structure"],
        "options": OPTIONS,
        **more,
    }


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environments_of("llama_cpp", tmp_path_factory.mktemp("llama_cpp"))


def test_the_smoke_matrix_qualifies_and_says_its_scope(tmp_path: Path) -> None:
    done = fleetqual("run", SMOKE, "--results", tmp_path / "results")
    assert done.code == 0, done.out + done.err
    assert "of 11 stages" in done.out
    rows = query(tmp_path / "results", "select * from verdicts")
    assert _verdicts(rows) == _verdicts(_smoke_of_before())
    effects = {(row["variant"], row["pass"]): row["effect"] for row in _whole_logits(rows)}
    assert effects.pop(("f32", "structure")) < 1e-9
    assert effects == {
        (row["variant"], row["pass"]): pytest.approx(float(row["effect"]), rel=0.5)
        for row in _whole_logits(_smoke_of_before())
        if row["pass"] == "deployed"
    }


def test_a_declared_difference_is_reproduced_and_leaves_no_trace(tmp_path: Path) -> None:
    results = tmp_path / "results"
    path = matrix(tmp_path / "few.yaml", {"f32": F32}, suites=["smoke"])
    done = fleetqual("run", path, "--results", results, "--only", "stage=parse")
    assert "declared exceptions" not in done.out, "nothing is qualified without its numbers"
    before = sorted(p for p in results.rglob("*") if "verdicts" not in p.parts)
    again = fleetqual(
        *("explain", "f32/structure", "--case", "parse/call", "--reproduce", "--results", results)
    )
    assert again.code == 1, again.out + again.err
    assert "reproduced: 2 of 2 outputs differ again, with the same output" in again.out
    assert sorted(p for p in results.rglob("*") if "verdicts" not in p.parts) == before


def _smoke_of_before() -> list[dict[str, str]]:
    """Return what an earlier version said of the same matrix: its verdicts, stage by stage."""
    text = (ROOT / "tests" / "fixtures" / "smoke-verdicts.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _whole_logits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for r in rows if (r["stage"], r["case_group"]) == ("logits", "*")]


def _verdicts(rows: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    """Return everything that does not depend on the CPU: not the numbers of parts of `logits`."""
    found = set()
    for row in rows:
        texts = {name: "" if value is None else str(value) for name, value in row.items()}
        names = ["variant", "pass", "stage", "case_group", "n"]
        if row["stage"] != "logits":
            names += ["verdict", "mismatches"]
        elif row["case_group"] == "*":
            names += ["verdict"]
        found.add(tuple(texts[name] for name in names))
    return found


def test_a_mistake_in_the_matrix_ends_the_process_with_2_and_nothing_is_run(tmp_path: Path) -> None:
    path = matrix(tmp_path / "mistake.yaml", {"f32": F32}, coverage="everywhere")
    done = fleetqual("run", path, "--results", tmp_path / "results")
    assert (done.code, done.out) == (2, "")
    assert f"{path.name}:" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "results").exists()


def test_a_crash_a_hang_and_a_missing_environment_are_no_divergence(
    llama_cpp: Path, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("segfault", "hang")}
    for folder in folders.values():
        folder.mkdir()
    path = matrix(
        tmp_path / "broken.yaml",
        {"f32": F32},
        engines=[
            _engine("missing", python="/nowhere/bin/python"),
            _engine("segfault", python=failing_llama_cpp(folders["segfault"], "segfault", 80)),
            _engine("hang", python=failing_llama_cpp(folders["hang"], "hang", 80), timeout_s=25),
            _engine("healthy"),
        ],
        suites=[str(FEW)],
    )
    done = fleetqual("run", path, "--results", tmp_path / "results", environments=llama_cpp)
    assert done.code == 3, done.out + done.err
    rows = query(
        tmp_path / "results",
        "select p.engine, a.status, a.signal, a.duration_s, q.verdict from plan p "
        "join attempts a using (run_id, cell_id, node_id) "
        "join qualification q using (run_id, cell_id, node_id) where p.reason is null",
    )
    found = {row["engine"]: row for row in rows}
    assert {name: row["status"] for name, row in found.items()} == {
        "missing": "error",
        "segfault": "crashed",
        "hang": "timeout",
        "healthy": "ok",
    }
    assert found["segfault"]["signal"] == "SIGSEGV"
    assert found["hang"]["duration_s"] < 60
    assert found["healthy"]["verdict"] == "qualified"
    assert {found[name]["verdict"] for name in ("missing", "segfault", "hang")} == {"error"}
    kept = query(
        tmp_path / "results",
        "select p.engine, count(*) as n from traces t join plan p using (run_id, cell_id, node_id) "
        "where t.stage in ('template', 'tokenize') group by 1",
    )
    assert {row["engine"] for row in kept} == {"segfault", "hang", "healthy"}


@pytest.fixture(scope="module")
def resumed(
    llama_cpp: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[Path, int]]:
    """A run that was killed and resumed, and when the attempts before were written."""
    folder = tmp_path_factory.mktemp("resumed")
    results = folder / "results"
    files = {n: TINY_CHAT / f"tiny-chat-{n}.gguf" for n in ("f16", "bf16", "f32")}
    path = matrix(
        folder / "resume.yaml",
        files,
        engines=[{**_engine("llama_cpp"), "passes": ["deployed"]}],
        margin=2e-3,
        suites=[str(FEW)],
    )
    asked = ("run", path, "--results", results, "--run-id", "killed")
    process = subprocess.Popen(
        [COMMAND, *map(str, asked)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        env=with_engines(llama_cpp),
    )
    attempts = results / "runs" / "killed" / "attempts"
    deadline, engines = time.monotonic() + 120, list[psutil.Process]()
    while not (engines and list(attempts.glob("*.parquet"))) and time.monotonic() < deadline:
        time.sleep(0.02)
        engines = _engines_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert engines, "it was killed while an engine worked"
    assert psutil.wait_procs(engines, timeout=20)[1] == [], "no engine outlives a killed run"
    before = {p: p.stat().st_mtime_ns for p in attempts.glob("*.parquet")}
    assert 0 < len(before) < 3
    done = fleetqual(*asked, "--resume", timeout=300, environments=llama_cpp)
    assert done.code == 0, done.out + done.err
    return results, before


def test_kill_and_resume_loses_nothing_and_doubles_nothing(
    resumed: tuple[Path, dict[Path, int]],
) -> None:
    results, before = resumed
    rows = query(
        results, "select cell_id, count(*) as n from attempts where status = 'ok' group by 1"
    )
    assert sorted(row["n"] for row in rows) == [1, 1, 1]
    assert {p: p.stat().st_mtime_ns for p in before} == before


def _engines_of(driver: int) -> list[psutil.Process]:
    """Return the engine children that a run's processes started and that still work."""
    found = []
    for child in psutil.Process(driver).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("runner/engines" in part for part in child.cmdline()):
                found.append(child)
    return found


def test_a_flipped_bit_is_caught_and_the_rest_is_still_judged(
    resumed: tuple[Path, dict[Path, int]], tmp_path: Path
) -> None:
    results = Path(shutil.copytree(resumed[0], tmp_path / "results"))
    rows = query(
        results,
        "select p.cell_id, p.variant, q.verdict from plan p "
        "join qualification q using (run_id, cell_id, node_id) where p.reason is null",
    )
    assert {row["verdict"] for row in rows} == {"qualified"}
    cells = {row["variant"]: row["cell_id"] for row in rows}
    (run,) = (results / "runs").iterdir()
    file, *_ = sorted((run / "traces").glob(f"{cells['f32'].replace(':', '-')}*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(bytes(content))
    done = fleetqual("check", "--results", results)
    assert done.code == 3
    assert file.name in done.out
    verdicts = query(results, "select variant, verdict from qualification")
    assert {r["verdict"] for r in verdicts if r["variant"] == "f16"} == {"qualified"}
    assert "qualified" not in {r["verdict"] for r in verdicts if r["variant"] == "f32"}
