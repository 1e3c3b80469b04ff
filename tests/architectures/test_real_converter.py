"""llama.cpp's own converter over the tiny models: its files agree with the model everywhere, and
hold the same tensors as the files that these tests write."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import gguf
import numpy as np
import pytest

from runner.model.known_facts import known_facts
from runner.stored.canonical import canonical_fact
from tests.architectures.conftest import Models
from tests.architectures.test_conversions import compared_tensors, wrong
from tests.architectures.tiny import TINY
from tests.engines import engine_python
from tests.real import real_source

pytestmark = pytest.mark.real
_ROOT = "llama_cpp_python-0.3.36/vendor/llama.cpp/"
#: What the converter asks of the tokenizer is replaced: it knows tokenizers by digests of theirs.
_PROGRAM = """
import json, sys
from pathlib import Path
vendor, models = sys.argv[1], json.loads(sys.argv[2])
sys.path[:0] = [vendor, vendor + "/gguf-py"]
import gguf
import conversion.base as base
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
for hf, out in models.items():
    config = json.loads((Path(hf) / "config.json").read_text())
    pre = "qwen2" if config["model_type"] == "qwen2" else "llama-bpe"
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer, pre=pre: pre
    kind = get_model_class(get_model_architecture(config, ModelType.TEXT))
    kind.set_vocab = lambda self: self._set_vocab_gpt2()
    # transformers 5 moves a key of GPT-NeoX that the converter reads.
    own = config if config["model_type"] == "gpt_neox" else None
    kind(Path(hf), gguf.LlamaFileType.ALL_F32, Path(out), hparams=own).write()
"""


@pytest.fixture(scope="module")
def converted(models: Models, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every tiny model, converted by the program in the source package of llama-cpp-python."""
    folder = tmp_path_factory.mktemp("converted")
    with tarfile.open(real_source("llama_cpp_python-0.3.36.tar.gz")) as archive:
        wanted = (f"{_ROOT}conversion/", f"{_ROOT}gguf-py/")
        members = [m for m in archive.getmembers() if m.name.startswith(wanted)]
        archive.extractall(folder, members, filter="data")
    found = {name: folder / f"{name}.gguf" for name in TINY}
    asked = json.dumps({str(models.hf[name]): str(path) for name, path in found.items()})
    done = subprocess.run(
        [engine_python("transformers"), "-c", _PROGRAM, str(folder / _ROOT), asked],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return found


@pytest.mark.parametrize("name", TINY)
def test_a_converted_model_has_the_tensors_and_facts_of_the_model(
    name: str, models: Models, converted: dict[str, Path]
) -> None:
    assert wrong(compared_tensors(models.hf[name], converted[name])) == []
    known = known_facts(models.hf[name], "structure", {"n_ctx": 256}, converted[name])
    assert known.differences == {}
    assert known.artifact["not_compared"] == []
    missing = {"rope_scaling"} if name == "llama-dynamic" else set()
    missing |= {"sliding_window", "windowed_layers"} if name == "mistral-window" else set()
    others = {
        fact
        for fact, value in known.artifact.items()
        if known.model.get(fact) is not None and not _same(value, known.model[fact])
    }
    assert others == missing


@pytest.mark.parametrize("name", TINY)
def test_the_files_of_these_tests_are_what_the_converter_writes(
    name: str, models: Models, converted: dict[str, Path]
) -> None:
    ours, theirs = (
        {t.name: np.array(t.data) for t in gguf.GGUFReader(path).tensors}
        for path in (models.gguf[name], converted[name])
    )
    assert ours.keys() == theirs.keys()
    for tensor, values in ours.items():
        np.testing.assert_allclose(values, theirs[tensor], atol=1e-6, err_msg=tensor)


def _same(a: object, b: object) -> bool:
    """Compare as the program does: numbers as 32-bit floats."""
    return canonical_fact("f", json.dumps(a)) == canonical_fact("f", json.dumps(b))
