"""Whole runs through the command line, on the real engine: what users see when things go wrong."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.command import SMOKE, fleetqual, matrix, query
from tests.engines import failing_llama_cpp
from tests.paths import TINY_CHAT

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


def test_the_smoke_matrix_qualifies_and_says_its_scope(tmp_path: Path) -> None:
    done = fleetqual("run", SMOKE, "--results", tmp_path / "results")
    assert done.code == 0, done.out + done.err
    assert "of 11 stages" in done.out
    rows = query(
        tmp_path / "results",
        "select effect, mismatches from verdicts "
        "where pass = 'structure' and stage = 'logits' and case_group = '*'",
    )
    assert rows[0]["effect"] < 1e-9
    assert rows[0]["mismatches"] == 0


def test_a_crash_a_hang_and_a_missing_environment_are_no_divergence(tmp_path: Path) -> None:
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
    )
    done = fleetqual("run", path, "--results", tmp_path / "results")
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


def test_kill_and_resume_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    results = tmp_path / "results"
    files = {n: TINY_CHAT / f"tiny-chat-{n}.gguf" for n in ("f16", "bf16", "f32")}
    path = matrix(
        tmp_path / "resume.yaml",
        files,
        engines=[{**_engine("llama_cpp"), "passes": ["deployed"]}],
        margin=2e-3,
    )
    command = [
        str(Path(sys.executable).parent / "fleetqual"),
        *("run", str(path), "--results", str(results), "--run-id", "killed"),
    ]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
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
    done = fleetqual(
        "run", path, "--results", results, "--run-id", "killed", "--resume", timeout=300
    )
    assert done.code == 0, done.out + done.err
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


def test_a_flipped_bit_is_caught_and_the_rest_is_still_judged(tmp_path: Path) -> None:
    results = tmp_path / "results"
    path = matrix(
        tmp_path / "bits.yaml",
        {"f32": F32, "f16": TINY_CHAT / "tiny-chat-f16.gguf"},
        engines=[{**_engine("llama_cpp"), "passes": ["deployed"]}],
    )
    assert fleetqual("run", path, "--results", results).code == 0
    rows = query(results, "select cell_id, variant from plan where reason is null")
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
