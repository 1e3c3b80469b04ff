"""Copies of a model folder carry what was asked for and nothing else."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from runner.model.artifact import HfFolder, model_digests
from runner.model.copies import with_facts, with_weights
from runner.model.facts import model_facts
from suites.errors import UserError
from tests.paths import TINY_CHAT


def test_a_copy_with_facts_states_them_and_keeps_the_rest(tmp_path: Path) -> None:
    facts = {"rope_theta": 10000.0, "rms_eps": 1e-6, "eos_ids": [1531]}
    with_facts(TINY_CHAT, facts, tmp_path / "copy")
    before = model_facts(TINY_CHAT, "structure", {})
    after = model_facts(tmp_path / "copy", "structure", {})
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {*facts, "model_name"}
    assert {name: after[name] for name in facts} == facts
    weights, texts = model_digests(tmp_path / "copy")
    own_weights, own_texts = model_digests(TINY_CHAT)
    # The EOS set is a text of the model, beside its tokenizer.
    assert (weights, texts.split("-")[0]) == (own_weights, own_texts.split("-")[0])
    assert texts != own_texts


@pytest.mark.parametrize("variant", ["tiny-chat-f32.gguf", "tiny-chat-q8_0.gguf"])
def test_a_copy_with_weights_holds_those_of_the_artifact(variant: str, tmp_path: Path) -> None:
    with_weights(TINY_CHAT, TINY_CHAT / variant, "gguf", tmp_path / "copy")
    own, copied = (load_file(p / "model.safetensors") for p in (TINY_CHAT, tmp_path / "copy"))
    assert own.keys() == copied.keys()
    errors = {name: float(np.max(np.abs(own[name] - copied[name]))) for name in own}
    if "f32" in variant:
        assert set(errors.values()) == {0.0}
    else:
        assert 0 < max(errors.values()) < 0.1
    assert json.loads((tmp_path / "copy" / "config.json").read_text())["dtype"] == "float32"
    assert HfFolder(tmp_path / "copy").places == HfFolder(TINY_CHAT).places


def test_an_artifact_that_lacks_a_tensor_makes_no_copy(tmp_path: Path) -> None:
    other = tmp_path / "other"
    with_weights(TINY_CHAT, TINY_CHAT, "hf", other)
    values = load_file(TINY_CHAT / "model.safetensors")
    del values["model.norm.weight"]
    save_file(values, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="is missing"):
        with_weights(TINY_CHAT, other, "hf", tmp_path / "copy")


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({}, {"type": "linear", "factor": 4.0}),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, {"type": "none"}),
        (
            {"rope_parameters": None, "rope_theta": 7.0},
            {
                "type": "yarn",
                "factor": 4.0,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "attention_factor": 1.5,
                "original_context": 256,
            },
        ),
    ],
)
def test_a_copy_takes_the_scaling_of_rope_and_keeps_its_base(
    config: dict[str, Any], scaling: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(TINY_CHAT, tmp_path / "m", ignore=shutil.ignore_patterns("*.gguf", "*.py"))
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    before = model_facts(tmp_path / "m", "structure", {})
    with_facts(tmp_path / "m", {"rope_scaling": scaling}, tmp_path / "copy")
    after = model_facts(tmp_path / "copy", "structure", {})
    assert after["rope_scaling"] == scaling != before["rope_scaling"]
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"rope_scaling", "model_name"}
