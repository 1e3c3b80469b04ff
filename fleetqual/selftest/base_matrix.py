"""The base matrix: its engines, variants, margins and expected differences hold in a self-test."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.matrix.schema import load_matrix
from runner.engines.registry import DECLARATIONS
from suites.errors import UserError
from suites.loading import SHIPPED

WEEKLY = SHIPPED.parent / "infra" / "matrices" / "weekly.yaml"
#: A child with the small model and two suites takes seconds; a fault may make it much slower.
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class BaseMatrix:
    """What a self-test takes from a matrix."""

    path: Path
    hf: Path
    variants: dict[str, dict[str, Any]]
    engines: dict[str, dict[str, Any]]
    suites: tuple[str, ...]
    """Names of its suites."""
    only_suites: tuple[str, ...] | None
    """The only suites that faults may use; None for all that a fault names."""
    rest: dict[str, Any]
    """Keys that every matrix made from it has."""


def base_matrix(matrix: Path | None) -> BaseMatrix:
    """Return what a self-test takes from a matrix; from the shipped weekly matrix when None.

    Raises:
        UserError: the matrix is wrong or missing, or does not serve the shipped model.
    """
    path = matrix or WEEKLY
    if matrix is None and not path.is_file():
        raise UserError(
            "the shipped matrix weekly.yaml is missing: only a checkout of the project has it",
            where=str(path),
            fix="give a matrix with the shipped model: `fleetqual selftest MATRIX`",
        )
    loaded, _ = load_matrix(path)
    shipped = SHIPPED / "models" / "tiny-chat"
    here = path.parent
    for model in loaded.models:
        if model.hf and (here / model.hf).resolve() == shipped.resolve():
            break
    else:
        raise UserError(
            "the matrix does not name the shipped model, into which faults are injected",
            where=str(path),
            fix=f"add a model with `hf: {shipped}`, or give no matrix",
        )
    variants = {}
    for variant in model.variants:
        kind = "gguf" if variant.gguf else "hf"
        file = os.path.abspath(here / (variant.gguf or variant.hf or ""))
        variants[variant.name] = {kind: file, "margin": variant.margin}
    engines: dict[str, dict[str, Any]] = {}
    for entry in loaded.engines:
        where = {"version": entry.version}
        if entry.python:
            where["python"] = os.path.abspath(here / os.path.expanduser(entry.python))
        # One thread for each child: as many children as CPUs do not slow each other down.
        own = {**entry.options, **DECLARATIONS[entry.engine].one_thread}
        engines.setdefault(entry.engine, {**without_none(where), "options": own})
    rest = {
        "backends": ["cpu"],
        "coverage": "any",
        "reference": loaded.reference.model_dump(mode="json"),
        "expected": [e.model_dump(mode="json", exclude_none=True) for e in loaded.expected],
        "expected_from": [os.path.abspath(here / name) for name in loaded.expected_from],
        "timeout_s": _TIMEOUT_S,
    }
    suites = None if matrix is None else tuple(loaded.suites)
    return BaseMatrix(path, shipped, variants, engines, tuple(loaded.suites), suites, rest)


def without_none(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that have a value."""
    return {key: value for key, value in keys.items() if value is not None}
