"""Two versions of one engine, and a library beside its own server, in one matrix."""

from pathlib import Path
from typing import Any

import pytest

from tests.command import EXPECTED, FEW, TINY_CHAT, fleetqual, matrix, query
from tests.engines import environments_of

_GGUF = TINY_CHAT / "tiny-chat-f32.gguf"


def _run(path: Path, engine: str, code: int) -> list[dict[str, Any]]:
    results, engines = path.parent / "results", environments_of(engine, path.parent)
    done = fleetqual("run", path, "--results", results, environments=engines)
    assert done.code == code, done.out + done.err
    return query(
        results,
        "select engine, engine_version, serving, stage, verdict, effect from verdicts "
        "where case_group = '*' order by engine, stage",
    )


def _mlx(folder: Path) -> Path:
    """Write a matrix with both versions of mlx-lm, and the server of one of them."""
    return matrix(
        folder / "versions.yaml",
        {},
        suites=[str(FEW)],
        engines=[
            {"engine": "mlx", "name": f"mlx-{version}", "version": version, "passes": ["structure"]}
            for version in ("0.31.3", "0.32.2")
        ]
        + [
            {
                "engine": "mlx",
                "name": "mlx-server",
                "version": "0.32.2",
                "serving": "managed",
                "passes": ["deployed"],
            }
        ],
        models=[
            {
                "name": "tiny-chat",
                "hf": str(TINY_CHAT),
                "variants": [{"name": "hf", "hf": str(TINY_CHAT), "margin": 1e-4}],
            }
        ],
        expected_from=[str(EXPECTED / "mlx.yaml")],
    )


def test_sql_tells_two_versions_of_mlx_and_its_server_apart(tmp_path: Path) -> None:
    rows = _run(_mlx(tmp_path), "mlx", code=3)
    served = {(r["engine"], r["engine_version"], r["serving"]) for r in rows}
    assert served == {
        ("mlx-0.31.3", "0.31.3", "in_process"),
        ("mlx-0.32.2", "0.32.2", "in_process"),
        ("mlx-server", "0.32.2", "managed"),
    }
    logits = {r["engine"]: r for r in rows if r["stage"] == "logits"}
    for name in ("mlx-0.31.3", "mlx-0.32.2"):
        assert logits[name]["verdict"] == "qualified"
        assert logits[name]["effect"] < 1e-9
    assert logits["mlx-server"]["verdict"] == "not_observed"


@pytest.mark.engines
def test_sql_tells_two_versions_of_llama_cpp_apart(tmp_path: Path) -> None:
    options = {"n_ctx": 1024, "n_threads": 1, "n_threads_batch": 1}
    path = matrix(
        tmp_path / "versions.yaml",
        {"f32": _GGUF},
        engines=[
            {
                "engine": "llama_cpp",
                "name": f"llama_cpp-{version}",
                "version": version,
                "passes": ["structure"],
                "options": options,
            }
            for version in ("0.3.35", "0.3.36")
        ],
    )
    rows = _run(path, "llama_cpp", code=3)
    versions = {r["engine"]: r["engine_version"] for r in rows}
    assert versions == {"llama_cpp-0.3.35": "0.3.35", "llama_cpp-0.3.36": "0.3.36"}
    assert {r["verdict"] for r in rows if r["stage"] == "logits"} == {"qualified"}
