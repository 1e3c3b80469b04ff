"""Benign configurations of the reference engine: what they differ by is noise, and makes the floor.

How far they lie from the reference says how far an equal computation may lie. The engine declares
them. All configurations of one weights and one compute dtype are measured in one load.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.matrix.resolve import Resolved
from cluster.matrix.resolved_models import ResolvedModel
from runner.engines.registry import DECLARATIONS
from runner.model.copies import with_weights
from runner.order import Variant
from suites.errors import UserError


@dataclass(frozen=True)
class Floor:
    """A floor to measure: the function of one variant, computed in one dtype."""

    model: ResolvedModel
    variant: Variant | None
    """A quantised variant; None for the model's own weights."""
    dtype: str

    @property
    def title(self) -> str:
        """What people call it."""
        name = f"{self.model.name}/{self.variant.name}" if self.variant else self.model.name
        return f"{name} in {self.dtype}"


def floors_of(resolved: Resolved) -> list[Floor]:
    """Return every floor that the deployed variants of a matrix need.

    Raises:
        UserError: its reference engine has no benign configurations.
    """
    engine = resolved.matrix.reference.engine
    if DECLARATIONS[engine].floors is None:
        able = ", ".join(name for name, own in DECLARATIONS.items() if own.floors)
        raise UserError(
            f"{engine} has no known benign configurations",
            where=f"{resolved.path}: reference",
            known=able,
            fix=f"measure floors with {able} as the reference engine",
        )
    found = []
    for model in resolved.models:
        own = {v.variant.weights_type for v in model.variants if not v.variant.quantised}
        found += [Floor(model, None, dtype) for dtype in sorted(own or {"f32"})]
        for entry in model.variants:
            if dtype := rounded_dtype(engine, entry.variant):
                found.append(Floor(model, entry.variant, dtype))
    return found


def rounded_dtype(engine: str, variant: Variant) -> str | None:
    """Return the compute dtype of a quantised GGUF whose kernels round activations too."""
    if not variant.quantised or variant.format != "gguf":
        return None
    return DECLARATIONS[engine].rounded_types.get(variant.weights_type)


def benign_matrix(
    resolved: Resolved,
    floor: Floor,
    folder: Path,
    *,
    few: bool,
    suites: Collection[str] | None = None,
) -> Path:
    """Write the matrix of a floor's benign configurations.

    Args:
        resolved: the matrix whose variants need floors.
        floor: what to measure.
        folder: receives the matrix, and the model with dequantised weights.
        few: take the few configurations that a prior completes, not all.
        suites: names in the matrix of the suites to take; all when None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    hf = floor.model.model.hf
    quantised = floor.variant is not None and floor.variant.quantised
    if floor.variant is not None and quantised:
        hf = folder / "model"
        with_weights(floor.model.model.hf, floor.variant.path, "gguf", hf)
    reference = resolved.matrix.reference
    named = [e for e in resolved.matrix.engines if e.engine == reference.engine]
    where = {}
    if named and named[0].python:
        where["python"] = str(resolved.python(named[0]))
    if named and named[0].version:
        where["version"] = named[0].version
    body = {
        "name": "floors",
        "suites": [
            _suite_reference(resolved, s.name)
            for s in resolved.suites
            if suites is None or s.name in suites
        ],
        "models": [
            {
                "name": floor.model.name,
                "hf": str(hf),
                "variants": [{"name": "f32", "hf": str(hf)}],
            }
        ],
        "engines": [
            {
                "engine": reference.engine,
                "name": f"{floor.dtype}-{number:02d}",
                "passes": ["deployed"],
                "options": options,
                **where,
            }
            for number, options in enumerate(configurations(reference.engine, floor.dtype, few=few))
        ],
        "backends": [reference.backend],
        "reference": {"engine": reference.engine, "backend": reference.backend},
        "require": ["logits"],
    }
    matrix = folder / "floors.yaml"
    matrix.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    return matrix


def configurations(engine: str, dtype: str, *, few: bool = False) -> list[dict[str, Any]]:
    """Return an engine's benign configurations that compute in ``dtype``."""
    declared = DECLARATIONS[engine]
    floors = declared.few_floors if few else declared.floors
    return floors(dtype) if floors else []


def _suite_reference(resolved: Resolved, suite: str) -> str:
    """Return a shipped suite's name, or the absolute path of a suite beside the matrix."""
    beside = resolved.path.parent / suite
    return str(beside.absolute()) if beside.is_file() else suite
