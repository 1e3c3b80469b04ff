"""The files that are made can be edited: they are read back, and edits are never lost."""

from pathlib import Path

import pytest

from cluster.matrix.schema import load_matrix
from fleetqual.qualify.files import Artifact, MadeFiles, expected_files, matrix_of
from fleetqual.qualify.serving import Served
from suites.errors import UserError
from suites.loading import load_suite
from suites.suite import Case, Suite
from tests.paths import TINY_CHAT

GGUF = TINY_CHAT / "tiny-chat-f32.gguf"
SUITE = Suite(
    name="own",
    version=1,
    requires=("template",),
    cases=(
        Case(id="template/one", stage="template", messages=({"role": "user", "content": "Hi"},)),
    ),
)
WAYS = (Served("llama_cpp", "in_process"), Served("llama_cpp", "managed"))


def _made(folder: Path) -> MadeFiles:
    made = MadeFiles(folder)
    expected = expected_files(["llama_cpp", "llama_cpp"], folder)
    matrix = matrix_of(
        "own",
        {"gguf": str(GGUF)},
        [Artifact("q8_0", GGUF, "gguf", "Q8_0"), Artifact("f32", GGUF, "gguf", "f32")],
        WAYS,
        "cpu",
        512,
        ["config", "template", "logits", "state"],
        expected,
    )
    made.write(matrix, SUITE, expected)
    return made


def test_the_matrix_is_one_that_run_reads(tmp_path: Path) -> None:
    made = _made(tmp_path / "own")
    matrix, _ = load_matrix(made.matrix)
    assert [entry.label for entry in matrix.engines] == ["llama_cpp", "llama_cpp-server"]
    assert [entry.served for entry in matrix.engines] == ["in_process", "managed"]
    assert {entry.options["n_ctx"] for entry in matrix.engines} == {512}
    assert [entry.require for entry in matrix.engines] == [None, ("state",)]
    (model,) = matrix.models
    assert {v.name: v.margin for v in model.variants} == {"q8_0": 0.01, "f32": 1e-4}
    assert matrix.expected_from == ("./expected-llama_cpp.yaml",)
    assert load_suite("./suite.yaml", made.folder) == SUITE


def test_files_that_nobody_edited_are_made_again(tmp_path: Path) -> None:
    _made(tmp_path).refuse_edited()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    _made(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["matrix.yaml", "suite.yaml", "expected-llama_cpp.yaml"])
def test_an_edited_file_is_refused_with_the_command_that_uses_it(tmp_path: Path, name: str) -> None:
    made = _made(tmp_path)
    with (tmp_path / name).open("a", encoding="utf-8") as file:
        file.write("# mine\n")
    with pytest.raises(UserError, match=f"{name} was edited") as refused:
        made.refuse_edited()
    assert f"fleetqual run {made.matrix}" in str(refused.value)
    assert "--fresh" in str(refused.value)
