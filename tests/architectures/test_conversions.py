"""Honest conversions of each architecture agree tensor by tensor and fact by fact; wrong ones do
not. No engine is needed for that."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from runner.model.copies import with_weights
from runner.model.known_facts import known_facts
from runner.model.weights import UnknownLayout, tensor_facts
from runner.order import Model, Variant
from tests.architectures.conftest import Models
from tests.architectures.gguf_file import write_gguf
from tests.architectures.tiny import TINY, write_tiny

Edit = Callable[[dict[str, np.ndarray]], None]


def compared_tensors(hf: Path, path: Path, form: str = "gguf") -> dict[str, dict[str, Any]]:
    model = Model(name="m", hf=hf, weights_digest="", computation_digest="", tokenizer_digest="")
    variant = Variant(
        name="v", format=form, path=path, artifact_digest="", weights_type="f32", weights_digest=""
    )
    return dict(tensor_facts(model, variant))


def wrong(facts: dict[str, dict[str, Any]]) -> list[str]:
    """Return the tensors of which shape or values are not those of the model."""
    return [
        name
        for name, fact in facts.items()
        if fact["seen_shape"] != fact["model_shape"] or fact["mismatched"]
    ]


def _edited(path: Path, out: Path, edit: Edit) -> Path:
    """Copy a GGUF file with other tensors; the metadata stay."""
    reader = gguf.GGUFReader(path)
    architecture = reader.get_field("general.architecture")
    assert architecture is not None
    writer = gguf.GGUFWriter(out, architecture.contents())
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    tensors = {
        t.name: np.array(t.data).reshape([int(n) for n in reversed(t.shape)])
        for t in reader.tensors
    }
    edit(tensors)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


@pytest.mark.parametrize("name", TINY)
def test_an_honest_conversion_has_the_tensors_and_facts_of_the_model(
    name: str, models: Models
) -> None:
    facts = compared_tensors(models.hf[name], models.gguf[name])
    assert len(facts) >= 15
    assert wrong(facts) == []
    known = known_facts(models.hf[name], "structure", {"n_ctx": 256}, models.gguf[name])
    assert known.differences == {}
    assert known.model["not_compared"] == known.artifact["not_compared"] == []


@pytest.mark.parametrize("name", ["gemma2", "mixtral", "gpt-neox", "qwen2"])
def test_a_dequantised_copy_is_the_model_again(name: str, models: Models, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with_weights(models.hf[name], models.gguf[name], "gguf", copy)
    assert wrong(compared_tensors(models.hf[name], copy, "hf")) == []


def _scrambled(tensors: dict[str, np.ndarray], name: str, heads: int) -> None:
    rows = tensors[name].reshape(heads, 2, -1, tensors[name].shape[1])
    tensors[name] = rows.swapaxes(1, 2).reshape(tensors[name].shape)


def _swapped_experts(tensors: dict[str, np.ndarray]) -> None:
    tensors["blk.0.ffn_gate_exps.weight"] = tensors["blk.0.ffn_gate_exps.weight"][[1, 0, 2, 3]]


def _swapped_halves(tensors: dict[str, np.ndarray]) -> None:
    tensors["blk.0.ffn_up.weight"] = np.roll(tensors["blk.0.ffn_up.weight"], 96, axis=0)


def _head_of_its_own(tensors: dict[str, np.ndarray]) -> None:
    tensors["output.weight"] = tensors["token_embd.weight"] * 1.001


def _headless(tensors: dict[str, np.ndarray]) -> None:
    del tensors["output.weight"]


def _unshifted(tensors: dict[str, np.ndarray]) -> None:
    tensors["blk.1.ffn_norm.weight"] = tensors["blk.1.ffn_norm.weight"] - 1


WRONG: dict[str, tuple[str, Edit, str]] = {
    "the rows of q are not reordered": (
        "mistral",
        lambda t: _scrambled(t, "blk.0.attn_q.weight", 4),
        "model.layers.0.self_attn.q_proj.weight",
    ),
    "rows are reordered where they must not be": (
        "qwen3",
        lambda t: _scrambled(t, "blk.1.attn_k.weight", 2),
        "model.layers.1.self_attn.k_proj.weight",
    ),
    "a norm of Gemma lacks the one": (
        "gemma3",
        _unshifted,
        "model.layers.1.pre_feedforward_layernorm.weight",
    ),
    "q, k and v are interleaved by head still": (
        "gpt-neox",
        lambda t: _scrambled(t, "blk.0.attn_qkv.weight", 4),
        "gpt_neox.layers.0.attention.query_key_value.weight",
    ),
    "two experts change places": (
        "qwen3-moe",
        _swapped_experts,
        "model.layers.0.mlp.experts.*.gate_proj.weight",
    ),
    "gate and up change places": (
        "phi",
        _swapped_halves,
        "model.layers.0.mlp.gate_up_proj.weight",
    ),
    "a tied head has other values": ("qwen2", _head_of_its_own, "output.weight"),
    "a head that is not tied is missing": (
        "llama",
        _headless,
        "lm_head.weight",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_conversion_is_seen_at_its_tensor(
    what: str, models: Models, tmp_path: Path
) -> None:
    name, edit, tensor = WRONG[what]
    path = _edited(models.gguf[name], tmp_path / "wrong.gguf", edit)
    assert wrong(compared_tensors(models.hf[name], path)) == [tensor]


def test_a_tied_head_that_is_written_too_is_no_difference(models: Models, tmp_path: Path) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors["output.weight"] = tensors["token_embd.weight"]

    path = _edited(models.gguf["gemma2"], tmp_path / "two.gguf", edit)
    assert wrong(compared_tensors(models.hf["gemma2"], path)) == []


def test_rows_that_no_token_has_may_be_left_out(tmp_path: Path) -> None:
    hf = write_tiny("gemma3", tmp_path / "m")
    path = write_gguf(hf, tmp_path / "m.gguf")
    config = json.loads((hf / "config.json").read_text())
    config["vocab_size"] += 64
    (hf / "config.json").write_text(json.dumps(config))
    tensors = load_file(hf / "model.safetensors")
    name = "model.embed_tokens.weight"
    tensors[name] = np.concatenate([tensors[name], np.ones((64, 128), np.float32)])
    save_file(tensors, hf / "model.safetensors")
    assert wrong(compared_tensors(hf, path)) == []
    assert known_facts(hf, "structure", {}, path).model["vocab_size"] == 1536


def test_tensors_of_an_unknown_architecture_are_not_compared_and_it_is_said(
    models: Models, tmp_path: Path
) -> None:
    hf = tmp_path / "unknown"
    shutil.copytree(models.hf["llama"], hf)
    config = json.loads((hf / "config.json").read_text()) | {"model_type": "novel", "twist": 3}
    (hf / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownLayout, match="the architecture novel is not known"):
        compared_tensors(hf, models.gguf["llama"])
    assert wrong(compared_tensors(hf, hf, "hf")) == []
    facts = known_facts(hf, "structure", {}).model
    assert facts["not_compared"] == ["hidden_act", "twist"]
    assert (facts["layers"], facts["rope_theta"]) == (2, 50000.0)


LOST: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # What config.json says that the file does not: fact → what the file states instead.
    "linear scaling": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_scaling": {"type": "none"}},
    ),
    "YaRN": (
        "qwen2",
        {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        {"rope_scaling": {"type": "none"}},
    ),
    "the soft caps": (
        "gemma2",
        {"attn_logit_softcapping": 30.0},
        {"attention_softcap": 20.0},
    ),
    "the pattern of windows": (
        "gemma3",
        {"layer_types": ["full_attention", "sliding_attention"] * 3},
        {"windowed_layers": [0, 1, 2, 3, 4]},
    ),
    "the window": ("mistral", {"sliding_window": 32}, {"sliding_window": None}),
    "the number of experts": ("mixtral", {"num_experts_per_tok": 3}, {"experts_used": 2}),
    "the rotated part": ("gpt-neox", {"rotary_pct": 0.5}, {"rope_dims": 8}),
    "the parallel residual": (
        "gpt-neox",
        {"use_parallel_residual": False},
        {"parallel_residual": True},
    ),
    "the base of the windowed layers": (
        "gemma3",
        {"rope_local_base_freq": 20000.0},
        {"rope_theta_windowed": 10000.0},
    ),
}


@pytest.mark.parametrize("what", LOST)
def test_a_fact_that_a_file_lacks_is_seen(what: str, models: Models, tmp_path: Path) -> None:
    name, stated, seen = LOST[what]
    hf = tmp_path / "m"
    shutil.copytree(models.hf[name], hf)
    config = json.loads((hf / "config.json").read_text()) | stated
    (hf / "config.json").write_text(json.dumps(config))
    known = known_facts(hf, "structure", {"n_ctx": 256}, models.gguf[name])
    for fact, value in seen.items():
        assert known.artifact[fact] == value
        assert known.model[fact] not in (None, value)


def test_factors_of_llama_3_that_are_wrong_are_seen(models: Models, tmp_path: Path) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors["rope_freqs.weight"] = tensors["rope_freqs.weight"] * 2

    path = _edited(models.gguf["llama-llama3"], tmp_path / "wrong.gguf", edit)
    honest, wrong = (
        known_facts(models.hf["llama-llama3"], "structure", {}, p)
        for p in (models.gguf["llama-llama3"], path)
    )
    assert honest.artifact["rope_scaling"] == honest.model["rope_scaling"]
    assert wrong.artifact["rope_scaling"] != wrong.model["rope_scaling"]


def test_scaling_that_is_set_by_options_counts(models: Models) -> None:
    """llama.cpp can be started with the scaling that a file lacks, and without the one it has."""
    hf, yarn, plain = models.hf["qwen2-yarn"], models.gguf["qwen2-yarn"], models.gguf["qwen2"]
    given = {"rope_scaling_type": 2, "rope_freq_scale": 0.25, "yarn_orig_ctx": 64}
    for path, options, agrees in (
        (yarn, {}, True),
        (plain, {}, False),
        (plain, given, True),
        (yarn, {"rope_scaling_type": 0}, False),
        (yarn, {"rope_freq_scale": 0.5}, False),
    ):
        known = known_facts(hf, "structure", options, path)
        stated, wanted = (
            known_side["rope_scaling"] for known_side in (known.artifact, known.model)
        )
        assert (stated == wanted) == agrees, options
