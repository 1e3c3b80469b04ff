"""Two models with equal weights and different rope scaling in one results root.

Neither is judged by the other's truth, whichever was frozen and run first."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from runner.freeze import write_floor
from runner.model.artifact import model_digests
from runner.model.computation import computation_digest, function_digest
from runner.stored.frozen_tables import FloorRow, floor_id
from suites.loading import SHIPPED
from tests.command import TINY_CHAT, fleetqual, query

SCALING = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
SUITE = {
    **{"name": "numbers", "version": 1, "requires": ["instrument", "config", "weights", "logits"]},
    "margins": {"structure": 1e-7},
    "cases": [
        {
            **{"id": f"logits/{name}", "stage": "logits", "max_tokens": 8},
            "messages": [{"role": "user", "content": text}],
        }
        for name, text in (("sum", "What is 2 plus 3?"), ("greeting", "Hello! Who are you?"))
    ],
}


def _scaled(folder: Path) -> Path:
    """Return a copy of the shipped model whose configuration scales its rope."""
    target = folder / "scaled"
    shutil.copytree(TINY_CHAT, target, ignore=shutil.ignore_patterns("*.gguf", "*.py"))
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "rope_scaling": SCALING}))
    return target


def _matrix(folder: Path, models: dict[str, Path]) -> Path:
    """Write a matrix of models: of each its folder, and a GGUF that knows of no scaling."""
    gguf = {"name": "gguf", "gguf": str(TINY_CHAT / "tiny-chat-f32.gguf")}
    options = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1}
    body = {
        "name": "functions",
        "suites": [str(folder / "numbers.yaml")],
        "models": [
            {"name": name, "hf": str(hf), "variants": [{"name": "folder", "hf": str(hf)}, gguf]}
            for name, hf in models.items()
        ],
        "engines": [
            {"engine": "transformers", "passes": ["structure"]},
            {"engine": "llama_cpp", "passes": ["structure"], "options": options},
        ],
        "backends": ["cpu"],
    }
    path = folder / "functions.yaml"
    path.write_text(yaml.safe_dump(body))
    return path


def _give_floor(hf: Path, references: Path) -> None:
    """Take the shipped model's floor for this one: benign changes move both equally little."""
    (shipped,) = SHIPPED.glob("references/floors/smoke-f32-*.parquet")
    own = {"function_digest": function_digest(model_digests(hf)[0], computation_digest(hf))}
    rows = [{**row, **own} for row in pq.read_table(shipped).to_pylist()]
    named = floor_id(rows)
    write_floor([FloorRow(**{**row, "floor_id": named}) for row in rows], str(references))


@pytest.fixture(scope="module", params=[("plain", "scaled"), ("scaled", "plain")], ids="-".join)
def judged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (model, engine) → the cell, where one model was frozen and run after the other."""
    folder = tmp_path_factory.mktemp("functions")
    results = folder / "results"
    (folder / "numbers.yaml").write_text(yaml.safe_dump(SUITE))
    folders = {"plain": TINY_CHAT, "scaled": _scaled(folder)}
    _give_floor(folders["scaled"], results / "references")
    # The run freezes and qualifies the models in the order of the matrix.
    matrix = _matrix(folder, {name: folders[name] for name in request.param})
    ran = fleetqual("run", matrix, "--results", results)
    assert ran.code == 1, ran.out + ran.err
    rows = query(results, "select model, engine, verdict, culprit, explanation from qualification")
    return {(row["model"], row["engine"]): row for row in rows}


def test_the_plain_model_is_qualified_by_both_engines(
    judged: dict[tuple[str, str], dict[str, Any]],
) -> None:
    for engine in ("transformers", "llama_cpp"):
        assert judged["plain", engine]["verdict"] == "qualified"


def test_the_engine_that_honours_the_scaling_is_qualified(
    judged: dict[tuple[str, str], dict[str, Any]],
) -> None:
    assert judged["scaled", "transformers"]["verdict"] == "qualified"


def test_a_gguf_without_the_scaling_is_divergent(
    judged: dict[tuple[str, str], dict[str, Any]],
) -> None:
    found = judged["scaled", "llama_cpp"]
    assert found["verdict"] == "divergent"
    assert found["culprit"] in ("config", "logits")
