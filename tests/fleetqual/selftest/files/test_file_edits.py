"""Faulty copies of model files: the fault is in, and all else keeps its bytes."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fleetqual.selftest.files.gguf import faulty_gguf
from fleetqual.selftest.files.hf import faulty_folder
from fleetqual.selftest.files.tensors import EditContext, edited
from fleetqual.selftest.injections import GgufInjection, HfInjection, TensorEdit
from runner.model.artifact import GgufFile, HfFolder
from suites.errors import UserError
from tests.paths import TINY_CHAT

F32 = TINY_CHAT / "tiny-chat-f32.gguf"
Q8 = TINY_CHAT / "tiny-chat-q8_0.gguf"
UP = "blk.2.ffn_up.weight"


def gguf_with(tmp_path: Path, source: Path = F32, **edit: Any) -> Path:
    return faulty_gguf(source, tmp_path / "faulty.gguf", GgufInjection.model_validate(edit))


def folder_with(tmp_path: Path, **edit: Any) -> Path:
    return faulty_folder(TINY_CHAT, tmp_path / "faulty", HfInjection.model_validate(edit))


def stored(path: Path) -> dict[str, bytes]:
    return {t.name: np.array(t.data).tobytes() for t in gguf.GGUFReader(path).tensors}


def metadata(path: Path) -> dict[str, Any]:
    fields = gguf.GGUFReader(path).fields
    return {name: f.contents() for name, f in fields.items() if not name.startswith("GGUF.")}


def differing(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


def test_a_metadata_edit_changes_that_key_alone(tmp_path: Path) -> None:
    copy = gguf_with(tmp_path, fields={"llama.rope.freq_base": 10000.0})
    assert differing(metadata(F32), metadata(copy)) == {"llama.rope.freq_base"}
    assert stored(copy) == stored(F32)


def test_a_key_left_out_is_all_that_is_missing(tmp_path: Path) -> None:
    copy = gguf_with(tmp_path, without=["tokenizer.ggml.eot_token_id"])
    assert differing(metadata(F32), metadata(copy)) == {"tokenizer.ggml.eot_token_id"}


def test_a_piece_of_the_template_is_replaced_once(tmp_path: Path) -> None:
    copy = gguf_with(tmp_path, template=["{{- bos_token }}", "{{- bos_token + bos_token }}"])
    before, after = metadata(F32), metadata(copy)
    assert differing(before, after) == {"tokenizer.chat_template"}
    assert after["tokenizer.chat_template"].count("bos_token") == 2


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"template": ["no such text", ""]}, "template does not contain"),
        ({"fields": {"no.such.key": 1}}, "has no metadata 'no.such.key'"),
        ({"tensors": [{"name": "nothing.*", "op": "transpose"}]}, "no tensor is called"),
        ({"tensors": [{"name": UP, "op": "transpose"}]}, "needs a square matrix"),
        ({"tensors": [{"name": UP, "op": "unpermute"}]}, "needs interleaved rows"),
        ({"tensors": [{"name": UP, "op": "flip_block", "block": 0}]}, "needs quantised blocks"),
        ({"tensors": [{"name": UP, "op": "scale", "by": 1.0}]}, "changes nothing"),
        ({"fields": {"general.architecture": "llama"}}, "value already"),
        ({"tensors": [{"name": UP, "op": "copy", "of": "output.weight"}]}, "change the shape"),
    ],
)
def test_what_the_file_does_not_have_is_refused(
    tmp_path: Path, edit: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        gguf_with(tmp_path, **edit)


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "scale", "by": 1.01},
        {"op": "add", "by": 0.5},
        {"op": "noise", "by": 0.01},
        {"op": "round", "by": 7},
        {"op": "permute_rows"},
        {"op": "permute_columns"},
        {"op": "shift_rows", "by": 1},
        {"op": "swap_rows", "rows": [0, 5]},
        {"op": "zero_block", "rows": [0, 8], "columns": [0, 16]},
        {"op": "nan", "by": 3},
    ],
    ids=lambda edit: str(edit["op"]),
)
def test_a_tensor_edit_touches_no_other_tensor(tmp_path: Path, edit: dict[str, Any]) -> None:
    copy = gguf_with(tmp_path, tensors=[{"name": UP, **edit}])
    assert differing(stored(F32), stored(copy)) == {UP}
    assert metadata(copy) == metadata(F32)
    again = faulty_gguf(
        F32,
        tmp_path / "again.gguf",
        GgufInjection.model_validate({"tensors": [{"name": UP, **edit}]}),
    )
    assert stored(again) == stored(copy)


def test_unpermuted_rows_are_those_of_hugging_face(tmp_path: Path) -> None:
    copy = gguf_with(tmp_path, tensors=[{"name": "blk.*.attn_[qk].weight", "op": "unpermute"}])
    raw = HfFolder(TINY_CHAT).tensors()["blk.1.attn_k.weight"].values()
    (found,) = [t for t in gguf.GGUFReader(copy).tensors if t.name == "blk.1.attn_k.weight"]
    np.testing.assert_array_equal(np.array(found.data), raw)


def test_a_tied_head_is_a_copy_of_the_embedding(tmp_path: Path) -> None:
    edit = {"name": "output.weight", "op": "copy", "of": "token_embd.weight"}
    tensors = stored(gguf_with(tmp_path, tensors=[edit]))
    assert tensors["output.weight"] == tensors["token_embd.weight"]


def test_a_dropped_tensor_is_gone(tmp_path: Path) -> None:
    copy = gguf_with(tmp_path, tensors=[{"name": "output.weight", "op": "drop"}])
    assert stored(F32).keys() - stored(copy).keys() == {"output.weight"}


@pytest.mark.parametrize(
    "edit",
    [
        {"op": "scale_blocks", "by": 1.05},
        {"op": "flip_block", "block": 3},
        {"op": "shuffle_blocks", "count": 8},
    ],
    ids=lambda edit: str(edit["op"]),
)
def test_quantised_blocks_are_edited_where_they_lie(tmp_path: Path, edit: dict[str, Any]) -> None:
    copy = gguf_with(tmp_path, Q8, tensors=[{"name": UP, **edit}])
    assert differing(stored(Q8), stored(copy)) == {UP}
    before, after = GgufFile(Q8).tensors()[UP].values(), GgufFile(copy).tensors()[UP].values()
    if edit["op"] == "scale_blocks":
        np.testing.assert_allclose(after, before * 1.05, rtol=2e-3)
    else:
        changed = np.flatnonzero((before != after).any(axis=0))
        assert len(changed) == (32 if edit["op"] == "flip_block" else before.shape[1])


@given(
    op=st.sampled_from(["permute_rows", "permute_columns", "shift_rows", "swap_rows"]),
    seed=st.integers(0, 1000),
    rows=st.integers(2, 9),
    columns=st.integers(1, 9),
)
@settings(deadline=None)
def test_reordering_keeps_every_value(op: str, seed: int, rows: int, columns: int) -> None:
    values = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    edit = TensorEdit.model_validate(
        {"name": "x", "op": op, "seed": seed, "by": seed, "rows": [0, rows - 1]}
    )
    found = edited("x", values, edit, EditContext(lambda _: values, {}))
    assert sorted(found.ravel()) == sorted(values.ravel())


@given(by=st.floats(1e-4, 0.5), seed=st.integers(0, 100))
@settings(deadline=None)
def test_noise_has_the_size_that_is_asked_for(by: float, seed: int) -> None:
    values = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    edit = TensorEdit(name="x", op="noise", by=by, seed=seed)
    found = edited("x", values, edit, EditContext(lambda _: values, {}))
    size = float(np.linalg.norm(found - values) / np.linalg.norm(values))
    assert size == pytest.approx(by, rel=0.1)


def files(folder: Path) -> dict[str, bytes]:
    parts = ("*.json", "*.jinja", "*.safetensors")
    return {p.name: p.read_bytes() for pattern in parts for p in folder.glob(pattern)}


def test_untouched_files_of_a_folder_keep_their_bytes(tmp_path: Path) -> None:
    copy = folder_with(tmp_path, json={"config.json": {"rms_norm_eps": 1e-6}})
    assert differing(files(TINY_CHAT), files(copy)) == {"config.json"}
    body = json.loads((copy / "config.json").read_text())
    assert body == {**json.loads((TINY_CHAT / "config.json").read_text()), "rms_norm_eps": 1e-6}


def test_json_is_edited_by_path(tmp_path: Path) -> None:
    bos = {"SpecialToken": {"id": "<|bos|>", "type_id": 0}}
    copy = folder_with(
        tmp_path,
        json={"tokenizer.json": {"added_tokens.5.special": True, "normalizer": None}},
        insert={"tokenizer.json": {"post_processor.processors.1.single": [0, bos]}},
        reverse={"tokenizer.json": ["model.merges"]},
        without={"generation_config.json": ["eos_token_id"]},
    )
    before = json.loads((TINY_CHAT / "tokenizer.json").read_text())
    after = json.loads((copy / "tokenizer.json").read_text())
    assert after["added_tokens"][5]["special"] is True
    assert after["normalizer"] is None
    assert after["model"]["merges"] == before["model"]["merges"][::-1]
    single = after["post_processor"]["processors"][1]["single"]
    assert single[0] == single[1] == bos
    assert "eos_token_id" not in json.loads((copy / "generation_config.json").read_text())


@pytest.mark.parametrize(
    "edit",
    [
        {"json": {"tokenizer.json": {"no.such.path": 1}}},
        {"json": {"nothing.json": {"x": 1}}},
        {"without": {"config.json": ["nothing"]}},
        {"reverse": {"config.json": ["model_type"]}},
        {"template": ["no such text", ""]},
        {"template": ["bos_token", "bos_token"]},
        {"json": {"config.json": {"model_type": "llama"}}},
        {"tensors": [{"name": "model.norm.weight", "op": "add", "by": 0.0}]},
    ],
    ids=str,
)
def test_a_path_that_is_not_there_is_refused(tmp_path: Path, edit: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        folder_with(tmp_path, **edit)


def test_safetensors_are_edited_tensor_by_tensor(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    copy = folder_with(tmp_path, tensors=[{"name": name, "op": "scale", "by": 2.0}])
    before = load_file(TINY_CHAT / "model.safetensors")
    after = load_file(copy / "model.safetensors")
    np.testing.assert_array_equal(after[name], before[name] * 2)
    assert {n for n in before if before[n].tobytes() != after[n].tobytes()} == {name}
    assert differing(files(TINY_CHAT), files(copy)) == {"model.safetensors"}
