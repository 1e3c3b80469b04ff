"""Faults planted in a folder that transformers serves, and in an engine's options."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.faults.hf_edits import faulty_folder
from suites.fault_catalogue import HfInjection
from tests.command import EXPECTED, SMOKE, fleetqual, matrix, query
from tests.paths import TINY_CHAT

#: Fault → the stage that is to blame.
FOLDER_FAULTS = {
    "template-whitespace": "template",
    "double-bos": "tokenize",
    "normaliser-removed": "tokenize",
    "eos-set-incomplete": "stop",
    "wrong-rope-theta": "logits",
}


_BOS = {"SpecialToken": {"id": "<|bos|>", "type_id": 0}}
_ONE_EOS = {"eos_token_id": [1528]}
_EDITS: dict[str, dict[str, Any]] = {
    "template-whitespace": {"template": ("'<|body|>\\n\\n'", "'<|body|>\\n'")},
    "double-bos": {"insert": {"tokenizer.json": {"post_processor.processors.1.single": (0, _BOS)}}},
    "normaliser-removed": {"json": {"tokenizer.json": {"normalizer": None}}},
    "eos-set-incomplete": {"json": {"generation_config.json": _ONE_EOS, "config.json": _ONE_EOS}},
    "wrong-rope-theta": {"json": {"config.json": {"rope_parameters.rope_theta": 10000.0}}},
    "healthy": {"template": ("{{- bos_token }}", "{#- x -#}{{- bos_token }}")},
}
_STAGES = ("template", "tokenize", "logits", "stop")


def _copy(target: Path, edit: dict[str, Any]) -> Path:
    return faulty_folder(TINY_CHAT, target, HfInjection.model_validate(edit))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("folders")
    variants = [
        {"name": name, "hf": str(_copy(folder / name, edit)), "margin": 1e-4}
        for name, edit in _EDITS.items()
    ]
    path = folder / "folders.yaml"
    body = {
        "name": "folders",
        "suites": ["smoke"],
        "models": [{"name": "tiny-chat", "hf": str(TINY_CHAT), "variants": variants}],
        "engines": [{"engine": "transformers", "passes": ["structure"]}],
        "backends": ["cpu"],
        "reference": yaml.safe_load(SMOKE.read_text())["reference"],
        "require": ["config", "weights", *_STAGES],
        "expected_from": [str(EXPECTED / "transformers.yaml")],
    }
    path.write_text(yaml.safe_dump(body, sort_keys=False, allow_unicode=True))
    only = ",".join(f"stage={stage}" for stage in _STAGES)
    done = fleetqual("run", path, "--results", folder / "results", "--only", only)
    assert done.code == 1, done.out + done.err
    rows = query(folder / "results", "select variant, verdict, culprit from qualification")
    return {row["variant"]: row for row in rows}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_a_fault_in_the_folder_of_a_candidate_is_found_where_it_is(
    fault: str, found: dict[str, dict[str, Any]]
) -> None:
    assert found[fault]["culprit"] == FOLDER_FAULTS[fault]


def test_a_healthy_candidate_qualifies(found: dict[str, dict[str, Any]]) -> None:
    assert found["healthy"]["verdict"] == "qualified"


def test_a_fault_in_the_options_is_found_and_its_cause_is_named(tmp_path: Path) -> None:
    options = yaml.safe_load(SMOKE.read_text())["engines"][0]["options"]
    path = matrix(
        tmp_path / "options.yaml",
        {"f32": TINY_CHAT / "tiny-chat-f32.gguf"},
        engines=[
            {
                "engine": "llama_cpp",
                "passes": ["structure"],
                "options": {**options, "rope_freq_base": 450000.0},
            }
        ],
    )
    done = fleetqual("run", path, "--results", tmp_path / "results")
    assert done.code == 1, done.out + done.err
    (row,) = query(tmp_path / "results", "select culprit, explanation from qualification")
    assert row["culprit"] == "logits"
    assert "450000" in row["explanation"]
