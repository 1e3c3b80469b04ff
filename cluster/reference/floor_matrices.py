"""Benign configurations of the reference engine: what they differ by is noise, and makes the floor.

How far they lie from the reference says how far an equal computation may lie. The engine declares
them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cluster.matrix.resolve import Resolved, resolve
from cluster.matrix.resolved_models import ResolvedModel
from cluster.running.run import FinishedRun
from runner.engines.registry import DECLARATIONS
from runner.model.copies import with_weights
from suites.errors import UserError


def benign_matrices(path: Path, folder: Path) -> Iterator[Path]:
    """Write a matrix of benign configurations for every reference that a matrix needs.

    Args:
        path: the matrix whose variants need floors.
        folder: receives the matrices and the models with dequantised weights.

    Raises:
        UserError: the matrix is wrong, or its reference engine has no benign configurations.
    """
    resolved = resolve(path)
    engine = resolved.matrix.reference.engine
    declared = DECLARATIONS[engine]
    if declared.floors is None:
        able = ", ".join(name for name, own in DECLARATIONS.items() if own.floors)
        raise UserError(
            f"{engine} has no known benign configurations",
            where=f"{path}: reference",
            known=able,
            fix=f"measure floors with {able} as the reference engine",
        )
    for model in resolved.models:
        own = sorted({v.variant.weights_type for v in model.variants if not v.variant.quantised})
        yield _write(resolved, model, model.model.hf, own or ["f32"], folder / model.name)
        for entry in model.variants:
            rounded = declared.rounded_types.get(entry.variant.weights_type)
            if entry.variant.quantised and entry.variant.format == "gguf" and rounded:
                copy = folder / f"{model.name}-{entry.variant.name}"
                with_weights(model.model.hf, entry.variant.path, "gguf", copy / "model")
                yield _write(resolved, model, copy / "model", [rounded], copy)


def configurations(engine: str, dtype: str) -> list[dict[str, Any]]:
    """Return an engine's benign configurations that compute in ``dtype``."""
    floors = DECLARATIONS[engine].floors
    return floors(dtype) if floors else []


def require_all(ran: FinishedRun) -> None:
    """Refuse a run in which a benign configuration is not ok: the floor needs all of them.

    Raises:
        UserError: with each such configuration and its error.
    """
    errors = {p.cell.cell_id: p.reason or "never ran" for p in (*ran.plan.pairs, *ran.plan.skips)}
    for outcome in ran.outcomes:
        because = outcome.error or "no reason given"
        text = "" if outcome.status == "ok" else f"{outcome.status}: {because}"
        errors[outcome.cell_id] = text
    labels = {p.cell.cell_id: p.cell.entry.label for p in (*ran.plan.pairs, *ran.plan.skips)}
    failed = sorted(f"{labels[cell]} {text}" for cell, text in errors.items() if text)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(errors)} benign configurations did not end ok",
            where=str(ran.plan.resolved.path),
            known="; ".join(failed),
            fix="repair the reference engine's environment; no floor was written",
        )


def _write(
    resolved: Resolved, model: ResolvedModel, hf: Path, dtypes: list[str], folder: Path
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    reference = resolved.matrix.reference
    named = [e for e in resolved.matrix.engines if e.engine == reference.engine]
    where = {}
    if named and named[0].python:
        where["python"] = str(resolved.python(named[0]))
    if named and named[0].version:
        where["version"] = named[0].version
    body = {
        "name": "floors",
        "suites": [_suite_reference(resolved, s.name) for s in resolved.suites],
        "models": [
            {"name": model.name, "hf": str(hf), "variants": [{"name": "f32", "hf": str(hf)}]}
        ],
        "engines": [
            {
                "engine": reference.engine,
                "name": f"{dtype}-{number:02d}",
                "passes": ["deployed"],
                "options": options,
                **where,
            }
            for dtype in dtypes
            for number, options in enumerate(configurations(reference.engine, dtype))
        ],
        "backends": [reference.backend],
        "reference": {"engine": reference.engine, "backend": reference.backend},
        "require": ["logits"],
    }
    matrix = folder / "floors.yaml"
    matrix.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    return matrix


def _suite_reference(resolved: Resolved, suite: str) -> str:
    """Return a shipped suite's name, or the absolute path of a suite beside the matrix."""
    beside = resolved.path.parent / suite
    return str(beside.absolute()) if beside.is_file() else suite
