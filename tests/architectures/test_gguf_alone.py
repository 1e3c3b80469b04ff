"""A GGUF alone of each architecture becomes the model that it was converted from."""

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from runner.model.architectures.hf_config import config_facts
from runner.model.folder import model_folder
from runner.model.folder.gguf_rope import llama3_parameters
from suites.errors import UserError
from tests.architectures.gguf_file import write_gguf
from tests.architectures.tiny import TINY, write_tiny
from tests.engines import engine_python

#: What a GGUF does not hold: llama's has no windows, and no file states a dynamic scaling.
LOST = {
    "mistral-window": {"windowed_layers", "sliding_window"},
    "llama-dynamic": {"rope_scaling"},
}


def _with_key(path: Path, key: str, value: int) -> Path:
    """Put one more key into a file; a second one keeps the tensors aligned."""

    def text(content: bytes) -> bytes:
        return struct.pack("<Q", len(content)) + content

    more = text(key.encode()) + struct.pack("<II", gguf.GGUFValueType.UINT32, value)
    filler = text(b"general.filler") + struct.pack("<I", gguf.GGUFValueType.STRING)
    more += filler + text(b"x" * (-(len(more) + len(filler) + 8) % gguf.GGUF_DEFAULT_ALIGNMENT))
    whole = path.read_bytes()
    (count,) = struct.unpack_from("<Q", whole, 16)
    made = path.with_name("more.gguf")
    made.write_bytes(whole[:16] + struct.pack("<Q", count + 2) + more + whole[24:])
    return made


def _facts(folder: Path) -> dict[str, Any]:
    return config_facts(json.loads((folder / "config.json").read_text()))


@pytest.mark.parametrize("name", TINY)
def test_it_has_the_tensors_and_the_facts_of_the_original(name: str, tmp_path: Path) -> None:
    original = write_tiny(name, tmp_path / name)
    path = write_gguf(original, tmp_path / f"{name}.gguf")
    made = model_folder(path, tmp_path / "cache").path
    ours, theirs = (load_file(f / "model.safetensors") for f in (made, original))
    assert ours.keys() == theirs.keys()
    for key, wanted in theirs.items():
        # The converter adds one to the norms of Gemma, and rounds there.
        np.testing.assert_allclose(ours[key], wanted, rtol=0, atol=2e-7, err_msg=key)
    found, stated = _facts(made), _facts(original)
    assert {key for key in stated if found[key] != stated[key]} == LOST.get(name, set())


_SAME_NUMBERS = """
import json, sys, torch
from transformers import AutoModelForCausalLM
ids = torch.arange(3, 83)[None] * 7 % 1500
found = {}
for name in sys.argv[2:]:
    models = [
        AutoModelForCausalLM.from_pretrained(
            f"{sys.argv[1]}/{name}/{kind}", dtype=torch.float32, output_loading_info=True
        )
        for kind in ("hf", "made")
    ]
    ours, theirs = (model(ids).logits.detach() for model, _ in models)
    missing = sorted(str(v) for _, info in models for v in info.values() if v)
    found[name] = [(ours - theirs).abs().max().item(), missing]
print(json.dumps(found))
"""


def test_transformers_computes_the_numbers_of_the_original(tmp_path: Path) -> None:
    names = [name for name in TINY if name not in LOST]
    for name in names:
        original = write_tiny(name, tmp_path / name / "hf")
        path = write_gguf(original, tmp_path / name / f"{name}.gguf")
        made = model_folder(path, tmp_path / name / "cache").path
        (tmp_path / name / "made").symlink_to(made)
    command = [engine_python("transformers"), "-c", _SAME_NUMBERS, str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {name: [0.0, []] for name in names}


def test_a_key_that_changes_the_numbers_and_is_not_read_is_refused(tmp_path: Path) -> None:
    original = write_tiny("olmo2", tmp_path / "olmo2")
    path = write_gguf(original, tmp_path / "olmo2.gguf")
    windowed = _with_key(path, "olmo2.attention.sliding_window", 16)
    with pytest.raises(
        UserError, match=r"attention\.sliding_window is 16: it is not read for olmo2"
    ):
        model_folder(windowed, tmp_path / "cache")


def test_a_key_that_is_not_known_is_noted(tmp_path: Path) -> None:
    original = write_tiny("llama", tmp_path / "llama")
    path = write_gguf(original, tmp_path / "llama.gguf")
    newer = _with_key(path, "llama.a_new_thing", 1)
    for _ in range(2):
        notes = model_folder(newer, tmp_path / "cache").notes
        assert "1 key of the GGUF was not read: llama.a_new_thing" in notes


@pytest.mark.parametrize(
    ("factor", "high", "trained", "theta", "size"),
    [(8.0, 4.0, 8192, 5e5, 128), (32.0, 4.0, 8192, 5e5, 64), (16.0, 3.0, 4096, 1e6, 128)],
)
def test_the_parameters_of_llama_3_are_found_from_the_factors_they_make(
    factor: float, high: float, trained: int, theta: float, size: int
) -> None:
    turns = trained / (2 * np.pi * theta ** (np.arange(0, size, 2) / size))
    smooth = np.clip((turns - 1) / (high - 1), 0, 1)
    factors = (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)
    assert llama3_parameters(factors.tolist(), theta, size) == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": high,
        "original_max_position_embeddings": trained,
    }
    other = factors.copy()
    other[np.argmax(factors)] *= 1.01
    assert llama3_parameters(other.tolist(), theta, size) is None


def test_a_tensor_of_another_architecture_is_refused(tmp_path: Path) -> None:
    original = write_tiny("llama", tmp_path / "llama")
    path = write_gguf(original, tmp_path / "llama.gguf")
    whole = path.read_bytes()
    name = gguf.TENSOR_NAMES[gguf.MODEL_TENSOR.FFN_GATE].format(bid=0).encode()
    path.write_bytes(whole.replace(name, name.replace(b"gate", b"gote")))
    with pytest.raises(UserError, match=r"blk\.0\.ffn_gote\.weight is not one of LlamaForCausalLM"):
        model_folder(path, tmp_path / "cache")
