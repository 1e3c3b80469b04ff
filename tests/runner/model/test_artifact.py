"""Model files read without an engine: one model has one digest in every format."""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.injections import GgufInjection, TensorEdit
from runner.model.artifact import GgufFile, HfFolder, describe_variant, model_digests
from runner.model.copies import with_weights
from runner.model.weights import tensor_facts
from runner.order import Model, Variant
from suites.errors import UserError
from tests.paths import TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
Q8 = TINY_CHAT / "tiny-chat-q8_0.gguf"
Q_PROJ = "blk.0.attn_q.weight"


def _edited(path: Path, **edit: Any) -> Path:
    return faulty_gguf(F32, path, GgufInjection(tensors=(TensorEdit(name=Q_PROJ, **edit),)))


def _facts(
    path: Path, kind: str, *, form: str = "gguf", hf: Path = TINY_CHAT
) -> dict[str, dict[str, object]]:
    model = Model(name="m", hf=hf, weights_digest="", tokenizer_digest="", computation_digest="")
    variant = Variant(
        name="v",
        format=form,
        path=path,
        artifact_digest="",
        weights_type=kind,
        weights_digest="",
    )
    return dict(tensor_facts(model, variant))


def test_the_same_weights_have_the_same_digest_in_both_formats() -> None:
    weights, _ = model_digests(TINY_CHAT)
    assert describe_variant(F32, "gguf")[1:] == ("f32", weights)
    assert describe_variant(TINY_CHAT, "hf")[1:] == ("f32", weights)


def test_another_type_has_other_values_and_says_its_type() -> None:
    weights, _ = model_digests(TINY_CHAT)
    for name, kind in (("f16", "f16"), ("bf16", "bf16"), ("q8_0", "Q8_0")):
        found = describe_variant(TINY_CHAT / f"tiny-chat-{name}.gguf", "gguf")
        assert found[1] == kind
        assert found[2] != weights


def test_metadata_changes_the_artifact_but_not_the_weights(tmp_path: Path) -> None:
    renamed = faulty_gguf(F32, tmp_path / "x.gguf", GgufInjection(fields={"general.name": "other"}))
    before, after = describe_variant(F32, "gguf"), describe_variant(renamed, "gguf")
    assert before[0] != after[0]
    assert before[2] == after[2]


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_casts_are_exact_tensor_by_tensor(name: str) -> None:
    facts = _facts(TINY_CHAT / f"tiny-chat-{name}.gguf", name)
    assert len(facts) == len(HfFolder(TINY_CHAT).places)
    assert {f["mismatched"] for f in facts.values()} == {0}


def test_quantisation_costs_what_its_type_costs() -> None:
    matrices = [f for f in _facts(Q8, "Q8_0").values() if f["type"] == "Q8_0"]
    assert matrices
    for facts in matrices:
        assert 0.002 < float(str(facts["relative_rmse"])) < 0.008
        assert float(str(facts["scale"])) == pytest.approx(1.0, abs=1e-3)


def test_a_scaled_tensor_and_a_skipped_permutation_are_measured(tmp_path: Path) -> None:
    scaled = _edited(tmp_path / "a.gguf", op="scale", by=1.01)
    facts = _facts(scaled, "f32")["model.layers.0.self_attn.q_proj.weight"]
    assert float(str(facts["scale"])) == pytest.approx(1.01, abs=1e-6)
    unpermuted = _edited(tmp_path / "b.gguf", op="unpermute")
    facts = _facts(unpermuted, "f32")["model.layers.0.self_attn.q_proj.weight"]
    assert float(str(facts["relative_rmse"])) > 0.5


def test_a_nan_is_told(tmp_path: Path) -> None:
    facts = _facts(_edited(tmp_path / "n.gguf", op="nan", by=1), "f32")
    assert facts["model.layers.0.self_attn.q_proj.weight"]["nonfinite"] == 1


def test_a_dequantised_copy_has_the_quantised_file_s_weights(tmp_path: Path) -> None:
    with_weights(TINY_CHAT, Q8, "gguf", tmp_path / "copy")
    weights, tokenizer = model_digests(tmp_path / "copy")
    assert weights == describe_variant(Q8, "gguf")[2]
    assert tokenizer == model_digests(TINY_CHAT)[1]


@given(st.binary(max_size=300))
def test_a_file_that_is_no_gguf_is_a_user_s_error(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broken.gguf"
        path.write_bytes(b"GGUF" + content)
        with pytest.raises(UserError):
            GgufFile(path)


@given(st.binary(max_size=100))
def test_a_file_that_is_no_safetensors_is_a_user_s_error(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "config.json").write_bytes((TINY_CHAT / "config.json").read_bytes())
        (root / "model.safetensors").write_bytes(content)
        with pytest.raises(UserError):
            HfFolder(root).tensors()


def test_a_missing_model_is_a_user_s_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        model_digests(tmp_path)


# The shipped references are known by these.


def test_the_shipped_model_keeps_the_digests_that_its_references_are_known_by() -> None:
    assert model_digests(TINY_CHAT) == (
        "w1:a612419a7c5eeb5d",
        "t2:84db173a08ee9ef0-64f2d7c2ad60765d",
    )
    assert describe_variant(Q8, "gguf")[2] == "w1:bd9a3ddd4e0ce197"


# What an artifact is known by


def _copy(target: Path, **config: Any) -> Path:
    target.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"):
        shutil.copy(TINY_CHAT / name, target)
    body = json.loads((target / "config.json").read_text()) | config
    (target / "config.json").write_text(json.dumps(body))
    return target


def test_what_is_added_to_a_model_folder_later_does_not_make_it_another(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "m")
    before = describe_variant(folder, "hf")
    (folder / "README.md").write_text("hello")
    (folder / "m-q8_0.gguf").write_bytes(b"GGUF")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text("{}")
    assert describe_variant(folder, "hf") == before


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "model.safetensors"])
def test_every_file_that_an_engine_reads_makes_it_another(tmp_path: Path, name: str) -> None:
    folder = _copy(tmp_path / "m")
    before = describe_variant(folder, "hf")[0]
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert describe_variant(folder, "hf")[0] != before


# Packed weights


def _packed(folder: Path, method: str, first: int = 7) -> Path:
    _copy(folder, quantization_config={"quant_method": method, "bits": 4})
    at = "model.layers.0.self_attn.q_proj"
    tensors = {
        "model.embed_tokens.weight": np.ones((8, 4), np.float16),
        f"{at}.qweight": np.array([[first, 8]], np.int32),
        f"{at}.scales": np.ones((1, 2), np.float16),
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8"])
def test_packed_weights_are_described_by_their_bytes(tmp_path: Path, method: str) -> None:
    found = describe_variant(_packed(tmp_path / "a", method), "hf")
    assert found[1] == method
    assert describe_variant(_packed(tmp_path / "b", method), "hf") == found
    assert describe_variant(_packed(tmp_path / "c", method, first=9), "hf")[2] != found[2]


def test_packed_weights_are_not_compared_and_it_is_said_why(tmp_path: Path) -> None:
    folder = _packed(tmp_path / "m", "awq")
    with pytest.raises(UserError, match="cannot dequantise awq yet"):
        _facts(folder, "awq", form="hf")
    with pytest.raises(UserError, match="cannot dequantise awq yet"):
        _facts(F32, "f32", hf=folder)


def test_a_type_without_numbers_is_described_too(tmp_path: Path) -> None:
    folder = _copy(tmp_path / "m", quantization_config="yes")
    body = b"\x01\x02\x03\x04"
    header = {"w.weight": {"dtype": "F8_E4M3", "shape": [2, 2], "data_offsets": [0, 4]}}
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + body)
    assert describe_variant(folder, "hf")[1] == "quantised"
    with pytest.raises(UserError, match="cannot dequantise quantised yet"):
        HfFolder(folder).tensors()["w.weight"].values()


def test_buffers_of_integers_are_compared_exactly(tmp_path: Path) -> None:
    facts = {}
    for name, value in (("a", 3), ("b", 4)):
        folder = _copy(tmp_path / name)
        save_file({"position_ids": np.array([1, 2, value])}, folder / "model.safetensors")
        facts[name] = _facts(folder, "f32", form="hf", hf=tmp_path / "a")["position_ids"]
    assert facts["a"]["mismatched"] == 0
    assert facts["b"]["mismatched"] == 1


# GGUF head counts, and tensors that follow from the configuration

_HEADS = "llama.attention.head_count"


def test_without_its_own_count_the_keys_have_as_many_heads(tmp_path: Path) -> None:
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    found = {}
    for name, fields in (("left-out", {}), ("stated", {f"{_HEADS}_kv": 2})):
        path = _gguf(tmp_path / name, {_HEADS: 2, **fields}, {"blk.0.attn_k.weight": rows})
        found[name] = GgufFile(path).tensors()["blk.0.attn_k.weight"].values()
    np.testing.assert_array_equal(found["left-out"], found["stated"])
    assert (found["stated"] != rows).any()


@pytest.mark.parametrize("count", [0, -2, 1.5, "four", [2, 2], 3, None])
def test_a_wrong_head_count_is_a_user_s_error(tmp_path: Path, count: Any) -> None:
    fields = {} if count is None else {_HEADS: count}
    rows = np.ones((8, 2), np.float32)
    path = _gguf(tmp_path / "x.gguf", fields, {"blk.0.attn_q.weight": rows})
    with pytest.raises(UserError, match="heads"):
        describe_variant(path, "gguf")


def _gguf(path: Path, fields: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    kinds = {int: gguf.GGUFValueType.INT32, float: gguf.GGUFValueType.FLOAT32}
    for name, value in fields.items():
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, kinds.get(type(value), gguf.GGUFValueType.STRING))
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_tensors_that_follow_from_the_configuration_are_on_neither_side(tmp_path: Path) -> None:
    """llama.cpp's converter adds Llama 3's rope factors; old folders saved the frequencies."""
    norm, factors = np.ones(4, np.float32), np.full(2, 8, np.float32)
    folder = _copy(tmp_path / "m")
    inverse = "model.layers.0.self_attn.rotary_emb.inv_freq"
    plain = {"model.norm.weight": norm, "model.embed_tokens.weight": np.ones((8, 4), np.float32)}
    save_file(plain | {inverse: factors}, folder / "model.safetensors")
    ours = {"output_norm.weight": norm, "token_embd.weight": np.ones((8, 4), np.float32)}
    path = _gguf(tmp_path / "m.gguf", {}, ours | {"rope_freqs.weight": factors})
    facts = _facts(path, "f32", hf=folder)
    assert set(facts) == set(plain)
    assert all(f["seen_shape"] == f["model_shape"] for f in facts.values())
    assert describe_variant(path, "gguf")[2] == describe_variant(folder, "hf")[2]
    with_weights(folder, path, "gguf", tmp_path / "copy")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": ["0", 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": 1, "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        [],
    ],
)
def test_an_ill_described_tensor_is_a_user_s_error(tmp_path: Path, entry: Any) -> None:
    folder = _copy(tmp_path / "m")
    head = json.dumps({"w": entry}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    with pytest.raises(UserError, match="tensor w"):
        describe_variant(folder, "hf")
