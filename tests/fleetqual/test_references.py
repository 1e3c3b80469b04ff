"""What a run lacks it makes: references and floors, once, by the real reference engine."""

import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from cluster.planning.plan import Plan
from cluster.running.run import plan_matrix
from fleetqual.references import make_missing, reference_notes
from runner.frozen_sets import verify
from suites.errors import UserError
from tests.paths import TINY_CHAT

SUITE = {
    "name": "mine",
    "version": 1,
    "requires": ["template", "logits"],
    "cases": [
        {
            "id": "template/one",
            "stage": "template",
            "messages": [{"role": "user", "content": "one"}],
        },
        {
            "id": "logits/one",
            "stage": "logits",
            "messages": [{"role": "user", "content": "Add 17 and 26."}],
            "max_tokens": 8,
        },
        {"id": "logits/text", "stage": "logits", "text": "The river leaves the hill at dawn"},
    ],
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    matrix = {
        "name": "mine",
        "suites": ["mine.yaml"],
        "models": [
            {
                "name": "tiny",
                "hf": str(TINY_CHAT),
                "variants": [
                    {"name": "f32", "gguf": str(TINY_CHAT / "tiny-chat-f32.gguf")},
                    {"name": "q8_0", "gguf": str(TINY_CHAT / "tiny-chat-q8_0.gguf")},
                ],
            }
        ],
        "engines": [{"engine": "llama_cpp", "passes": ["deployed"], "options": {"n_ctx": 512}}],
        "backends": ["cpu"],
        "reference": {"engine": "transformers", "backend": "cpu"},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SUITE))
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(matrix))
    return plan_matrix(path, None, None)


def test_references_and_floors_are_made_once(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The shipped floors are of this very model: here they are not looked at.
    root = str(tmp_path / "results" / "references")
    monkeypatch.setattr("fleetqual.references.roots", lambda _: (root,))
    results = str(tmp_path / "results")
    notes = reference_notes(plan, results)
    assert [note.split(":")[0] for note in notes] == [
        "tiny/own weights",
        "tiny/q8_0",
        "tiny in f32",
        "tiny/q8_0 in q8_0",
    ]
    assert all("made by this run" in n or "measured by this run" in n for n in notes)
    said = io.StringIO()
    written = make_missing(plan, results, Console(file=said, width=200))
    assert len(written) == 4
    assert verify([root]) == []
    assert "3 cases of 1 suites" not in said.getvalue()
    assert "6 cases of 2 suites" in said.getvalue()
    assert "floor of tiny in f32: measured" in said.getvalue()
    floors = [pq.read_table(path).to_pylist() for path in written if "/floors/" in path]
    kl = {}
    for rows in floors:
        configurations = {row["configuration"] for row in rows}
        assert len(configurations) == 5
        assert {row["probe"] for row in rows} == {"prefill", "decode"}
        assert any(json.loads(c)["options"].get("padding") for c in configurations)
        kl[rows[0]["compute_dtype"]] = max(row["mean_kl"] for row in rows)
    assert kl["f32"] < 1e-9 < 1e-6 < kl["q8_0"], "activations are rounded as ggml rounds them"
    assert make_missing(plan, results, Console(file=said)) == []
    assert reference_notes(plan, results) == []


def test_without_the_reference_engine_the_command_that_adds_it_is_said(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise UserError("the reference engine is not installed here", fix="install it so")

    monkeypatch.setattr("fleetqual.references.orders_of", missing)
    monkeypatch.setattr("fleetqual.references.reference_engine", missing)
    results, said = str(tmp_path / "results"), io.StringIO()
    assert make_missing(plan, results, Console(file=said, width=200)) == []
    assert "not installed here" in said.getvalue()
    assert "install it so" in said.getvalue()
    assert "install it so" in reference_notes(plan, results)[0]
