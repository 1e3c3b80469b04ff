"""Model files read without an engine: one model has one digest in every format."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.artifact import GgufFile, HfFolder, describe_variant, model_digests
from runner.freeze import dequantised_copy
from runner.order import Model, Variant
from runner.weights import tensor_facts
from suites.errors import UserError
from tests.faulty_gguf import edited_gguf
from tests.paths import TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
Q8 = TINY_CHAT / "tiny-chat-q8_0.gguf"
Q_PROJ = "blk.0.attn_q.weight"


def _facts(path: Path, kind: str) -> dict[str, dict[str, object]]:
    weights, tokenizer = model_digests(TINY_CHAT)
    model = Model(name="m", hf=TINY_CHAT, weights_digest=weights, tokenizer_digest=tokenizer)
    variant = Variant(
        name="v",
        format="gguf",
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
    renamed = edited_gguf(F32, tmp_path / "x.gguf", fields={"general.name": "other"})
    before, after = describe_variant(F32, "gguf"), describe_variant(renamed, "gguf")
    assert before[0] != after[0]
    assert before[2] == after[2]


@pytest.mark.parametrize("name", ["f32", "f16", "bf16"])
def test_casts_are_exact_tensor_by_tensor(name: str) -> None:
    facts = _facts(TINY_CHAT / f"tiny-chat-{name}.gguf", name)
    assert len(facts) == len(HfFolder(TINY_CHAT).names)
    assert {f["mismatched"] for f in facts.values()} == {0}


def test_quantisation_costs_what_its_type_costs() -> None:
    matrices = [f for f in _facts(Q8, "Q8_0").values() if f["type"] == "Q8_0"]
    assert matrices
    for facts in matrices:
        assert 0.002 < float(str(facts["relative_rmse"])) < 0.008
        assert float(str(facts["scale"])) == pytest.approx(1.0, abs=1e-3)


def test_a_scaled_tensor_and_a_skipped_permutation_are_measured(tmp_path: Path) -> None:
    scaled = edited_gguf(F32, tmp_path / "a.gguf", tensors={Q_PROJ: lambda x: x * 1.01})
    facts = _facts(scaled, "f32")["model.layers.0.self_attn.q_proj.weight"]
    assert float(str(facts["scale"])) == pytest.approx(1.01, abs=1e-6)
    raw = HfFolder(TINY_CHAT).tensors()[Q_PROJ].values()
    unpermuted = edited_gguf(F32, tmp_path / "b.gguf", tensors={Q_PROJ: lambda _: raw})
    facts = _facts(unpermuted, "f32")["model.layers.0.self_attn.q_proj.weight"]
    assert float(str(facts["relative_rmse"])) > 0.5


def test_a_nan_is_told(tmp_path: Path) -> None:
    def poison(values: np.ndarray) -> np.ndarray:
        values[0, 0] = np.nan
        return values

    facts = _facts(edited_gguf(F32, tmp_path / "n.gguf", tensors={Q_PROJ: poison}), "f32")
    assert facts["model.layers.0.self_attn.q_proj.weight"]["nonfinite"] == 1


def test_a_dequantised_copy_has_the_quantised_file_s_weights(tmp_path: Path) -> None:
    dequantised_copy(TINY_CHAT, Q8, tmp_path / "copy")
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
