"""Faults planted in a folder that transformers serves, and in an engine's options."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.command import SMOKE, fleetqual, matrix, query
from tests.faulty_folder import edited_folder
from tests.paths import TINY_CHAT

#: Fault → the stage that is to blame.
FOLDER_FAULTS = {
    "template-whitespace": "template",
    "double-bos": "tokenize",
    "normaliser-removed": "tokenize",
    "eos-set-incomplete": "stop",
    "wrong-rope-theta": "logits",
}


def _twice(tokenizer: dict[str, Any]) -> None:
    (template,) = [
        part
        for part in tokenizer["post_processor"]["processors"]
        if part["type"] == "TemplateProcessing"
    ]
    template["single"].insert(0, template["single"][0])


def _rope(config: dict[str, Any]) -> None:
    config["rope_parameters"]["rope_theta"] = 10000.0


def _one_eos(config: dict[str, Any]) -> None:
    config["eos_token_id"] = config["eos_token_id"][:1]


def _no_normaliser(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = None


_EDITS: dict[str, dict[str, Any]] = {
    "template-whitespace": {"template": ("'<|body|>\\n\\n'", "'<|body|>\\n'")},
    "double-bos": {"edits": {"tokenizer.json": _twice}},
    "normaliser-removed": {"edits": {"tokenizer.json": _no_normaliser}},
    "eos-set-incomplete": {"edits": {"generation_config.json": _one_eos, "config.json": _one_eos}},
    "wrong-rope-theta": {"edits": {"config.json": _rope}},
    "healthy": {"template": ("{{- bos_token }}", "{#- x -#}{{- bos_token }}")},
}
_STAGES = ("template", "tokenize", "logits", "stop")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("folders")
    variants = [
        {"name": name, "hf": str(edited_folder(TINY_CHAT, folder / name, **edit)), "margin": 1e-4}
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
        "expected": [
            entry
            for entry in yaml.safe_load((SMOKE.parent / "weekly.yaml").read_text())["expected"]
            if entry["engine"] == "transformers"
        ],
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
