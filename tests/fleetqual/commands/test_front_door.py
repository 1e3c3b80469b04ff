"""The command: every verb and option of the contract is there, helps, and fails in one message."""

import errno
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import fleetqual
from fleetqual.commands.app import with_all_verbs
from fleetqual.selftest.findings import Assessment
from tests.paths import ROOT

#: Verb → what the contract lets a user give.
VERBS = {
    ("qualify",): {
        "MODEL",
        "[VARIANT]...",
        "--engine",
        "--backend",
        "--budget",
        "--prompts",
        "--download",
        "--no-install",
        "--fresh",
        "--results",
        "--json",
    },
    ("init",): {"MODEL", "[VARIANT]...", "--engine", "--backend", "--prompts", "--results"},
    ("doctor",): {"--results", "--json"},
    ("plan",): {"MATRIX", "--results", "--only", "--tier", "--address", "--json"},
    ("run",): {
        "MATRIX",
        "--results",
        "--run-id",
        "--resume",
        "--no-reference",
        "--address",
        "--only",
        "--tier",
        "--json",
    },
    ("check",): {"[RUN]", "--junit", "--results", "--json"},
    ("explain",): {"CELL", "--case", "--results", "--json"},
    ("report",): {"[RUN]", "-o", "--out", "--results"},
    ("sql",): {"[QUERY]", "--results", "--json"},
    ("selftest",): {
        "[MATRIX]",
        "--fault",
        "--held-out",
        "--servers",
        "--clean",
        "--minimal",
        "--markdown",
        "--out",
        "--results",
        "--json",
    },
    ("engine",): {"install", "list", "remove", "stages"},
    ("engine", "install"): {"ENGINE", "VERSION", "--backend", "--replace"},
    ("engine", "list"): {"--json"},
    ("engine", "remove"): {"ENGINE", "VERSION"},
    ("engine", "stages"): {"--markdown", "--json"},
    ("reference",): {"freeze", "floors", "show", "verify", "push", "pull"},
    ("reference", "freeze"): {"MATRIX", "--out", "--results"},
    ("reference", "push"): {"URI", "--results", "--json"},
    ("reference", "pull"): {"URI", "--results", "--json"},
    ("reference", "floors"): {"MATRIX", "--out", "--results"},
    ("reference", "show"): {"--results", "--json"},
    ("reference", "verify"): {"--results", "--json"},
}


def answer(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        fleetqual.main(list(arguments))
    out, err = capsys.readouterr()
    return ended.value.code, out, err


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_its_options_and_says_what_it_does(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = answer(capsys, *verb, "--help")
    assert code == 0
    words = set(out.replace(",", " ").replace("=", " ").split())
    assert VERBS[verb] <= words
    usage, _, text = out.strip().partition("\n")
    assert usage.startswith("Usage:")
    assert len(text.strip().splitlines()[0]) > 15, "a sentence of help"


def test_all_commands_are_listed_here() -> None:
    app = with_all_verbs()
    listed = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    groups = {g.name: g.typer_instance for g in app.registered_groups}
    assert {verb[0] for verb in VERBS} == listed | set(groups)
    inner = {(n, c.name) for n, group in groups.items() for c in group.registered_commands}
    assert {verb for verb in VERBS if len(verb) == 2} == inner


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("plan",),
        ("plan", "m.yaml", "--coverage", "any"),
        ("run", "m.yaml", "--tier", "9"),
        ("run", "m.yaml", "--tier", "one"),
        ("run", "no-such-matrix.yaml"),
        ("run", "infra/matrices/smoke.yaml", "--only", "engin=x"),
        ("plan", "infra/matrices/smoke.yaml", "--address", "nonsense"),
        ("run", "infra/matrices/smoke.yaml", "--results", "nope://bucket"),
        ("reference", "thaw"),
    ],
)
def test_a_mistake_on_the_command_line_is_exit_code_2(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    code, out, err = answer(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert err.strip()
    assert "Traceback" not in err


def test_an_interrupt_is_no_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cluster.running.run.plan_matrix", interrupted)
    code, _, err = answer(capsys, "plan", "m.yaml")
    assert code == 130
    assert "--resume" in err


def test_a_fault_of_our_own_is_no_verdict_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr("cluster.running.run.plan_matrix", broken)
    code, out, err = answer(capsys, "plan", "m.yaml")
    assert (code, out) == (3, "")
    assert err.startswith("error: internal error: ValueError: two lines")
    assert len(err.splitlines()) == 1
    monkeypatch.setenv("FLEETQUAL_DEBUG", "1")
    code, _, err = answer(capsys, "plan", "m.yaml")
    assert code == 3
    assert "Traceback" in err


def test_a_closed_pipe_is_no_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "closed")

    monkeypatch.setattr("cluster.running.run.plan_matrix", closed)
    monkeypatch.setattr("sys.stdout", sys.stdout)  # what Typer puts in its place is undone
    monkeypatch.setattr("sys.stderr", sys.stderr)
    assert answer(capsys, "plan", "m.yaml")[0] == 3


@pytest.mark.parametrize("verb", ["check", "report", "sql", "doctor"])
@pytest.mark.parametrize("beneath", ["", "/results"])
def test_results_that_are_a_file_are_told(
    verb: str, beneath: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    code, out, err = answer(capsys, verb, "--results", f"{tmp_path}/file{beneath}")
    assert (code, out) == (2, "")
    assert "is a file, not a folder" in err


def test_doctor_tells_what_is_here_and_how_to_add_what_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEETQUAL_ENVIRONMENTS", str(tmp_path))
    code, out, _ = answer(capsys, "doctor", "--json", "--results", str(tmp_path))
    assert code == 0
    found = {row["name"]: row for row in json.loads(out)}
    assert found["cpu"]["value"]
    assert found["ray"]["ok"]
    assert not found["llama_cpp"]["ok"]
    assert "fleetqual engine install llama_cpp==" in found["llama_cpp"]["fix"]
    code, out, _ = answer(capsys, "doctor", "--results", str(tmp_path))
    assert "fleetqual engine install llama_cpp==" in out


def test_results_come_from_the_environment_unless_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEETQUAL_RESULTS", str(tmp_path / "from-environment"))
    for arguments, name in (
        (("doctor", "--json"), "from-environment"),
        (("doctor", "--json", "--results", str(tmp_path / "flag")), "flag"),
    ):
        _, out, _ = answer(capsys, *arguments)
        where = {row["name"]: row["where"] for row in json.loads(out)}
        assert where["results"] == str(tmp_path / name)


def test_the_page_of_a_self_test_names_its_command_and_no_place_of_this_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fleetqual.selftest.run.run_faults", lambda *_: iter(()))
    monkeypatch.setattr("fleetqual.selftest.run.assess", lambda *_: Assessment([], [], {}, []))
    page = tmp_path / "docs" / "page.md"
    given = ("--servers", "--fault", "gateway-strips-reasoning", "--fault", "gateway-drops-tools")
    monkeypatch.chdir(ROOT)
    code, out, err = answer(capsys, "selftest", *given, "--results", str(tmp_path), "-o", str(page))
    assert (code, err) == (0, "")
    assert "1 fault not run: the matrix names no mlx" in out
    faults = "--fault gateway-strips-reasoning --fault gateway-drops-tools"
    assert f"`fleetqual selftest {faults} --servers -o page.md`" in page.read_text()
    monkeypatch.chdir(tmp_path)
    matrix = ROOT / "infra" / "matrices" / "engines.yaml"
    answer(capsys, "selftest", str(matrix), *given, "--results", str(tmp_path), "-o", str(page))
    assert f"`fleetqual selftest engines.yaml {faults} --servers -o docs/" in page.read_text()
    assert str(tmp_path) not in page.read_text()


def test_help_answers_at_once_and_loads_neither_ray_nor_duckdb() -> None:
    script = (
        "import sys, fleetqual\n"
        "try:\n    fleetqual.main(['--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "print({'ray', 'duckdb', 'pyarrow'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip().endswith("set()")


def test_python_m_fleetqual_is_the_command_and_shows_the_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fleetqual", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"fleetqual {version('fleetqual')}\n"
