"""Faults planted in copies of the shipped model are found at the right stage; benign edits alarm
nothing. Everything goes through the command line, with and without the shipped expected entries."""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest

from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.injections import GgufInjection
from runner.stored.store import Store
from runner.stored.tables import RunRow
from tests.command import Done, fleetqual, matrix, query
from tests.engines import environments_of
from tests.paths import TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
#: Fault → the stage that is to blame.
FAULTS = {
    "template-whitespace": "template",
    "tools-branch-removed": "template",
    "double-bos": "template",
    "wrong-pre-tokenizer": "tokenize",
    "wrong-rope-theta": "logits",
    "eos-set-incomplete": "stop",
    "tensor-scaled": "weights",
    "permutation-skipped": "weights",
}
BENIGN = ("template-comment", "renamed-model")


def _copies(folder: Path) -> dict[str, Path]:
    edits: dict[str, dict[str, Any]] = {
        "template-whitespace": {"template": ("'<|body|>\\n\\n'", "'<|body|>\\n'")},
        "tools-branch-removed": {"template": ("{%- if tools %}", "{%- if false %}")},
        "double-bos": {"template": ("{{- bos_token }}", "{{- bos_token + bos_token }}")},
        "wrong-pre-tokenizer": {"fields": {"tokenizer.ggml.pre": "gpt-2"}},
        "wrong-rope-theta": {"fields": {"llama.rope.freq_base": 10000.0}},
        "eos-set-incomplete": {"without": ("tokenizer.ggml.eot_token_id",)},
        "tensor-scaled": {"tensors": [{"name": "blk.2.ffn_up.weight", "op": "scale", "by": 1.01}]},
        "permutation-skipped": {"tensors": [{"name": "blk.*.attn_[qk].weight", "op": "unpermute"}]},
        "merges-swapped": {"fields": {"tokenizer.ggml.merges": _swapped_merges()}},
        "template-comment": {"template": ("{{- bos_token }}", "{#- x -#}{{- bos_token }}")},
        "renamed-model": {"fields": {"general.name": "another name"}},
    }
    return {
        name: faulty_gguf(F32, folder / f"{name}.gguf", GgufInjection.model_validate(edit))
        for name, edit in edits.items()
    }


def _swapped_merges() -> list[str]:
    """Return the model's merges with the last two in the other order: few texts show that."""
    found = gguf.GGUFReader(F32).get_field("tokenizer.ggml.merges")
    assert found is not None
    merges: list[str] = found.contents()
    return [*merges[:-2], merges[-1], merges[-2]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    folder = tmp_path_factory.mktemp("faults")
    path, results = matrix(folder / "faults.yaml", _copies(folder)), folder / "results"
    engines = environments_of("llama_cpp", folder)
    return fleetqual("run", path, "--results", results, environments=engines), results


@pytest.fixture(scope="module", params=[True, False], ids=["expected-in-force", "none-expected"])
def expected_in_force(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def judged(
    expected_in_force: bool, ran: tuple[Done, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Done, Path]:
    if expected_in_force:
        return ran
    results = tmp_path_factory.mktemp("undeclared") / "results"
    shutil.copytree(ran[1], results)
    _declare_nothing(results)
    return fleetqual("check", "--results", results), results


def _declare_nothing(results: Path) -> None:
    """Make it the run of the same matrix without ``expected``: only the judgement differs."""
    store = Store(str(results))
    (run,) = store.runs()
    for file in store.files(run, "runs"):
        rows = store.read_file(f"runs/{run}/{file}").to_pylist()
        config = [json.loads(row["config"]) | {"expected": []} for row in rows]
        changed = [
            RunRow(**row | {"config": json.dumps(told)})
            for row, told in zip(rows, config, strict=True)
        ]
        store.write(run, "runs", Path(file).stem, changed)
    for made in ("verdicts", "qualification"):
        shutil.rmtree(results / "runs" / run / made)
    (results / "runs" / run / "verified.json").unlink()


@pytest.fixture(scope="module")
def found(judged: tuple[Done, Path]) -> dict[str, dict[str, Any]]:
    rows = query(
        judged[1], "select variant, verdict, culprit, culprits, explanation from qualification"
    )
    return {row["variant"]: row for row in rows}


@pytest.fixture(scope="module")
def stages(judged: tuple[Done, Path]) -> dict[tuple[str, str], str]:
    rows = query(judged[1], "select variant, stage, verdict from verdicts where case_group = '*'")
    return {(row["variant"], row["stage"]): row["verdict"] for row in rows}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_where_it_is(
    fault: str, found: dict[str, dict[str, Any]], stages: dict[tuple[str, str], str]
) -> None:
    assert found[fault]["verdict"] == "divergent"
    assert found[fault]["culprit"] == FAULTS[fault]
    assert stages[fault, FAULTS[fault]] == "divergent"


def test_a_loaded_fact_that_differs_explains_the_stage_it_breaks(
    found: dict[str, dict[str, Any]],
) -> None:
    assert "10000" in found["wrong-rope-theta"]["explanation"]
    assert "500000" in found["wrong-rope-theta"]["explanation"]
    assert "eos_ids" in found["eos-set-incomplete"]["explanation"]


def test_two_swapped_merges_are_named(
    found: dict[str, dict[str, Any]], stages: dict[tuple[str, str], str], expected_in_force: bool
) -> None:
    merges = _swapped_merges()
    assert found["merges-swapped"]["verdict"] == stages["merges-swapped", "config"] == "divergent"
    # Where something else differs in tokenize too, the fact explains that stage.
    culprit = "config" if expected_in_force else "tokenize"
    assert found["merges-swapped"]["culprit"] == culprit
    told = f"merges_digest: merge {len(merges) - 2} is '{merges[-2]}', the model has '{merges[-1]}'"
    assert told in found["merges-swapped"]["explanation"]


@pytest.mark.parametrize("edit", BENIGN)
def test_a_benign_edit_changes_no_verdict(
    edit: str,
    expected_in_force: bool,
    stages: dict[tuple[str, str], str],
    found: dict[str, dict[str, Any]],
) -> None:
    # llama.cpp's own differences show at these stages, as declared or not, and nothing else does.
    own = {"tokenize", "stop", "detokenize", "parse"}
    differ = "expected" if expected_in_force else "divergent"
    seen = {stage: v for (variant, stage), v in stages.items() if variant == edit}
    assert {s for s, v in seen.items() if v == differ} - {"chain"} == own
    assert {v for s, v in seen.items() if s not in own | {"chain"}} <= {"qualified", "not_observed"}
    if expected_in_force:
        assert found[edit]["verdict"] == "qualified"
        assert found[edit]["culprit"] is None


def test_the_exit_code_says_that_something_diverged(judged: tuple[Done, Path]) -> None:
    assert judged[0].code == 1
    assert "Traceback" not in judged[0].err
