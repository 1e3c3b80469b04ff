"""Benign configurations of the reference engine: what they differ by is noise, and makes the floor.

Each changes only the order of additions: threads, attention kernels, padding, chunks of a prompt,
math libraries. How far they lie from the reference says how far an equal computation may lie.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cluster.matrix.resolve import Resolved, ResolvedModel, resolve
from cluster.running.run import FinishedRun
from runner.model.copies import with_weights
from suites.errors import UserError

_SHAPES: tuple[dict[str, Any], ...] = (
    {},
    {"threads": 2},
    {"padding": 1},
    {"padding": 5},
    {"padding": 16},
    {"prefill_chunk": 5},
    {"prefill_chunk": 17},
    {"prefill_chunk": 64},
    {"padding": 3, "prefill_chunk": 33},
    {"mkldnn": False},
)
#: Quantisations whose kernels round activations too, and the option that imitates the rounding.
_ROUNDED = {"Q8_0": "q8_0"}


def configurations(dtype: str) -> list[dict[str, Any]]:
    """Return 20 benign configurations that compute in ``dtype``."""
    arithmetic = (
        {"dtype": "f32", "activations": dtype} if dtype in _ROUNDED.values() else {"dtype": dtype}
    )
    return [
        {**arithmetic, "threads": 1, "attn_implementation": attention, **shape}
        for attention, shape in itertools.product(("sdpa", "eager"), _SHAPES)
    ]


def benign_matrices(path: Path, folder: Path) -> Iterator[Path]:
    """Write a matrix of benign configurations for every truth that a matrix needs.

    Args:
        path: the matrix whose variants need floors.
        folder: receives the matrices, and models with dequantised weights.

    Raises:
        UserError: the matrix is wrong, or its reference engine has no benign configurations.
    """
    resolved = resolve(path)
    engine = resolved.matrix.reference.engine
    if engine != "transformers":
        raise UserError(
            f"no benign configurations of {engine} are known",
            where=f"{path}: reference",
            fix="measure floors with transformers as the reference engine",
        )
    for model in resolved.models:
        own = sorted({v.variant.weights_type for v in model.variants if not v.variant.quantised})
        yield _write(resolved, model, model.model.hf, own or ["f32"], folder / model.name)
        for entry in model.variants:
            rounded = _ROUNDED.get(entry.variant.weights_type)
            if entry.variant.quantised and entry.variant.format == "gguf" and rounded:
                copy = folder / f"{model.name}-{entry.variant.name}"
                with_weights(model.model.hf, entry.variant.path, "gguf", copy / "model")
                yield _write(resolved, model, copy / "model", [rounded], copy)


def require_all(ran: FinishedRun) -> None:
    """Refuse a run in which a benign configuration did not end ok: a floor without it is another.

    Raises:
        UserError: naming each such configuration and what became of it.
    """
    became = {p.cell.cell_id: p.reason or "never ran" for p in (*ran.plan.pairs, *ran.plan.skips)}
    for outcome in ran.outcomes:
        because = outcome.error or "no reason given"
        text = "" if outcome.status == "ok" else f"{outcome.status}: {because}"
        became[outcome.cell_id] = text
    labels = {p.cell.cell_id: p.cell.entry.label for p in (*ran.plan.pairs, *ran.plan.skips)}
    failed = sorted(f"{labels[cell]} {text}" for cell, text in became.items() if text)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(became)} benign configurations did not end ok",
            where=str(ran.plan.resolved.path),
            known="; ".join(failed),
            fix="mend the reference engine's environment; no floor was written",
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
        "suites": [_callable_from_anywhere(resolved, s.name) for s in resolved.suites],
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
            for number, options in enumerate(configurations(dtype))
        ],
        "backends": [reference.backend],
        "reference": {"engine": reference.engine, "backend": reference.backend},
        "require": ["logits"],
    }
    matrix = folder / "floors.yaml"
    matrix.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    return matrix


def _callable_from_anywhere(resolved: Resolved, suite: str) -> str:
    """A suite beside the matrix is named by its path, which must hold from another folder too."""
    beside = resolved.path.parent / suite
    return str(beside.absolute()) if beside.is_file() else suite
