"""The matrix file: which suites, models, engines and backends to qualify, as frozen models.

Mistakes that the file alone shows are found here and in the entries' own files, each at its key.
Mistakes that need other files are found in :mod:`cluster.matrix.resolve`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from cluster.matrix.engine_entry import EngineEntry, EngineKind
from cluster.matrix.entry_checks import NAME, refuse_duplicates
from cluster.matrix.expected_entry import Expected
from cluster.matrix.model_entry import ModelEntry
from runner.engines.registry import DECLARATIONS, REFERENCE_ENGINE
from suites.loading import load_document
from suites.mistakes import KeyPath, Mistake
from suites.stages import Backend, Pass, Stage
from suites.suite import Frozen
from suites.yaml_document import Document

Coverage = Literal["any", "each-hardware", "each-node", "each-device"]


class Exclusion(Frozen):
    """Combinations to skip: those that match every given key."""

    suite: str | None = None
    model: str | None = None
    variant: str | None = None
    engine: str | None = None
    """Name of an entry, or of an engine."""
    backend: Backend | None = None
    pass_: Pass | None = Field(default=None, alias="pass")
    hardware: str | None = None
    node: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_fields_set:
            raise Mistake(
                (),
                "an empty exclusion would exclude everything",
                ", ".join(f.alias or n for n, f in type(self).model_fields.items()),
                "name what to exclude",
            ).pydantic_error()
        return self


class ReferenceEntry(Frozen):
    """What computes the reference where there is no golden answer."""

    engine: EngineKind = REFERENCE_ENGINE
    backend: Backend = "cpu"

    @field_validator("engine")
    @classmethod
    def _computes_from_the_model_itself(cls, value: EngineKind) -> EngineKind:
        able = [
            name
            for name, made in DECLARATIONS.items()
            if "in_process" in made.servings and "hf" in made.formats
        ]
        if value not in able:
            raise Mistake(
                (),
                f"{value} cannot compute a reference",
                ", ".join(able),
                "name an engine that runs in process and reads Hugging Face folders",
            ).pydantic_error()
        return value


class HardwareEntry(Frozen):
    """Price and power of one device."""

    usd_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    tdp_w: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Matrix(Frozen):
    """A matrix file."""

    name: str = Field(pattern=NAME)
    suites: tuple[str, ...] = Field(min_length=1)
    """Names of shipped suites, or paths relative to the matrix."""
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    engines: tuple[EngineEntry, ...] = Field(min_length=1)
    backends: tuple[Backend, ...] = Field(default=("cuda", "rocm", "metal", "cpu"), min_length=1)
    exclude: tuple[Exclusion, ...] = ()
    coverage: Coverage = "each-hardware"
    reference: ReferenceEntry = ReferenceEntry()
    require: tuple[Stage, ...] | None = Field(default=None, min_length=1)
    """Stages that must be qualified; by default those that the suites require."""
    expected: tuple[Expected, ...] = ()
    expected_from: tuple[str, ...] = ()
    """Files with more expected failures, shared by matrices; paths relative to the matrix."""
    hardware: dict[str, HardwareEntry] = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Deadline in seconds of one engine child, which serves all suites of one model variant;
    by default several times the plan's estimate."""
    tries: int = Field(default=1, ge=1, le=10)
    """Attempts at a cell on a node until one is ok."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        refuse_duplicates("suite", "suites", self.suites)
        refuse_duplicates("model", "models", [m.name for m in self.models])
        refuse_duplicates("backend", "backends", self.backends)
        refuse_duplicates("stage", "require", self.require or ())
        self._entries_have_unique_names()
        engines = _unique(n for e in self.engines for n in (e.label, e.engine))
        variants = _unique(v.name for m in self.models for v in m.variants)
        known = {
            "suite": list(self.suites),
            "model": [m.name for m in self.models],
            "variant": variants,
            "engine": engines,
        }
        for index, exclusion in enumerate(self.exclude):
            for kind, names in known.items():
                given = getattr(exclusion, kind)
                if given is not None and given not in names:
                    raise Mistake.unknown(
                        ("exclude", index, kind), kind, given, names
                    ).pydantic_error()
        for index, engine in enumerate(self.engines):
            for position, given in enumerate(engine.variants):
                if given not in variants:
                    at: KeyPath = ("engines", index, "variants", position)
                    raise Mistake.unknown(at, "variant", given, variants).pydantic_error()
        for index, entry in enumerate(self.expected):
            if entry.engine not in engines:
                key: KeyPath = ("expected", index, "engine")
                raise Mistake.unknown(key, "engine", entry.engine, engines).pydantic_error()
        return self

    def _entries_have_unique_names(self) -> None:
        first: dict[str, int] = {}
        for index, entry in enumerate(self.engines):
            if entry.label in first:
                named = bool(entry.name)
                raise Mistake(
                    ("engines", index, "name" if named else "engine"),
                    f"two entries are called {entry.label!r} (the other is "
                    f"engines[{first[entry.label]}])",
                    fix="give each entry its own `name:`",
                ).pydantic_error()
            first[entry.label] = index


def load_matrix(path: Path) -> tuple[Matrix, Document]:
    """Read a matrix and keep its lines, for mistakes that only other files show.

    Raises:
        UserError: the file is not a matrix; the message names the line, the key and the fix.
    """
    return load_document(path, Matrix)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
