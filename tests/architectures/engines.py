"""What real engines make of tiny models: their facts, and the distribution that they compute.

One process of an engine loads all models one after the other: importing takes longer than that.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from tests.engines import engine_python
from tests.paths import ROOT

#: Length of the text: longer than the windows and the scaled contexts of the tiny models.
LENGTH = 48
#: What each engine is asked with: llama.cpp pads its context to this length.
OPTIONS: dict[str, dict[str, object]] = {
    "llama_cpp": {"n_ctx": 256},
    "vllm": {"enforce_eager": True, "block_size": 32},
}
_PROGRAM = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.append(sys.argv[1])
import numpy as np
from runner.engines.base import Load
from runner.engines.engine import Engine
from runner.engines.registry import load_adapter
engine, options, pass_, models, ids, out = json.loads(sys.argv[2])
found = {}
for name, path in models.items():
    described = Engine("e", engine, options=options)
    load = Load(path, "cpu", pass_=pass_, weights_type="f32", engine=described)
    adapter = load_adapter(load)
    np.save(f"{out}/{name}.npy", np.asarray(adapter.distribution.prefill(ids), np.float64))
    found[name] = adapter.facts()
    del adapter
print(json.dumps(found), file=answers, flush=True)
"""


def ask_engine(
    engine: str, models: dict[str, Path], out: Path, pass_: str = "structure"
) -> dict[str, dict[str, Any]]:
    """Return model name → facts of the engine; write the logits of one text as ``NAME.npy``."""
    out.mkdir()
    ids = [1527, *((37 * i * i + 11 * i + 5) % 1500 for i in range(LENGTH - 1))]
    paths = {name: str(path) for name, path in models.items()}
    asked = json.dumps([engine, OPTIONS.get(engine, {}), pass_, paths, ids, str(out)])
    done = subprocess.run(
        [engine_python(engine), "-c", _PROGRAM, str(ROOT), asked],
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answered: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answered


def mean_kl(reference: Path, candidate: Path) -> float:
    """Return the mean KL of two files of logits [LENGTH, V], in nats."""
    a, b = (_log_softmax(np.load(path)) for path in (reference, candidate))
    assert a.shape[0] == b.shape[0] == LENGTH
    size = min(a.shape[1], b.shape[1])
    return float((np.exp(a[:, :size]) * (a[:, :size] - b[:, :size])).sum(axis=1).mean())


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
