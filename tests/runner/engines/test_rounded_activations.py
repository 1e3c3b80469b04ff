"""Activations are rounded as ggml rounds them, by the type of each matrix."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from tests.runner.asking import ask

#: A model of one linear layer that returns its input, under the name of a layer of a real one.
_LAYER = (
    "import torch\n"
    "from pathlib import Path\n"
    "from runner.engines.transformers.rounded_activations import round_activations\n"
    "model = torch.nn.Module()\n"
    "model.down = torch.nn.Linear(512, 512, bias=False)\n"
    "model.down.weight.data = torch.eye(512)\n"
    "model.get_input_embeddings = lambda: torch.nn.Embedding(2, 2)\n"
    "x = np.random.default_rng(3).normal(0, 3, 512).astype(np.float32)\n"
)
X = np.random.default_rng(3).normal(0, 3, 512).astype(np.float32)


def rounded(folder: Path, kind: str) -> np.ndarray:
    found = ask(
        "transformers",
        f"{_LAYER}round_activations(torch, model, Path({str(folder)!r}), {kind!r})\n"
        "answer = model.down(torch.tensor(x)[None])[0].tolist()\n",
    )
    return np.array(found, np.float32)


@pytest.mark.parametrize("kind", ["q4_0", "q4_1", "q5_1", "q8_0"])
def test_32_values_share_a_scale_where_ggml_multiplies_with_q8_0_or_q8_1(
    kind: str, tmp_path: Path
) -> None:
    q8_0 = GGMLQuantizationType.Q8_0
    told = dequantize(quantize(X, q8_0), q8_0)
    seen = rounded(tmp_path, kind)
    # Ties of half a step may be rounded either way.
    assert np.mean(np.isclose(seen, told, rtol=1e-3, atol=1e-6)) > 0.98
    assert np.abs(seen - X).max() > 1e-3


def test_256_values_share_a_scale_where_ggml_multiplies_with_q8_k(tmp_path: Path) -> None:
    seen = rounded(tmp_path, "q4_k")
    blocks = X.reshape(2, 256)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    told = (np.round(blocks / scale) * scale).reshape(-1)
    assert np.mean(np.isclose(seen, told, rtol=1e-4, atol=1e-6)) > 0.98
    assert np.abs(seen - X).max() > np.abs(rounded(tmp_path, "q8_0") - X).max()


def test_the_type_of_the_tensor_outranks_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "ggml_types.json").write_text(json.dumps({"down.weight": "F16"}))
    assert np.array_equal(rounded(tmp_path, "q4_1"), X.astype(np.float16).astype(np.float32))


def test_an_unrounded_type_leaves_activations_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "ggml_types.json").write_text(json.dumps({"down.weight": "F32"}))
    assert np.array_equal(rounded(tmp_path, "q4_1"), X)
