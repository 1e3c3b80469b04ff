"""The matrix file: which suites, models, engines and backends to qualify, as frozen models.

Every mistake that the file alone shows is found here, at its own key; what needs other files is
found in :mod:`cluster.matrix.resolve`.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, field_validator, model_validator

from cluster.matrix.entry_checks import (
    bad_address,
    known_dialect,
    known_engine,
    misplaced_adapter_fault,
    unknown_adapter_fault,
    unknown_option,
    unknown_proxy_fault,
)
from cluster.matrix.injected_faults import AdapterFault, ProxyFault
from cluster.matrix.secret_names import secret_names
from runner.engines.registry import DECLARATIONS, REFERENCE_ENGINE
from suites.loading import Document, load_document
from suites.mistakes import KeyPath, Mistake
from suites.stages import Backend, Pass, Serving, Stage
from suites.suite import Frozen

Coverage = Literal["any", "each-hardware", "each-node", "each-device"]
EngineKind = Annotated[str, AfterValidator(known_engine)]
Dialect = Annotated[str, AfterValidator(known_dialect)]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@/+-]{0,99}$"
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_SECRET = re.compile(r"(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}|[A-F0-9]{24,}")


class VariantEntry(Frozen):
    """One artifact of a model: a GGUF file or a Hugging Face folder."""

    name: str = Field(pattern=NAME)
    gguf: str | None = None
    """Path of a GGUF file, relative to the matrix."""
    hf: str | None = None
    """Path of a folder, relative to the matrix."""
    margin: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """δ of the deployed pass: largest mean KL that counts as equal."""

    @model_validator(mode="after")
    def _has_one_artifact(self) -> Self:
        if (self.gguf is None) == (self.hf is None):
            both = self.gguf is not None
            raise Mistake(
                ("hf",) if both else (),
                f"variant {self.name!r} names {'both' if both else 'neither'} of gguf and hf",
                "gguf (a file), hf (a folder)",
                "give exactly one",
            ).raised()
        return self


class ModelEntry(Frozen):
    """One model identity and the variants in which it is served."""

    name: str = Field(pattern=NAME)
    hf: str
    """Folder with config.json, tokenizer and safetensors, relative to the matrix."""
    variants: tuple[VariantEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _refuse_twice("variant", "variants", [v.name for v in self.variants])
        return self


class EngineEntry(Frozen):
    """One engine, as it is to be run."""

    engine: EngineKind
    name: str = Field(default="", pattern=rf"^$|{NAME}")
    """Name in tables; that of the engine when left out."""
    version: str | None = None
    """An installed environment ``<engine>-<version>``; else what there is."""
    python: str | None = None
    """Interpreter of the engine's environment, relative to the matrix; instead of a version."""
    serving: Serving | None = None
    """The first that the engine declares when left out."""
    base_url: str | None = None
    """Where an external server answers."""
    api_key_env: str | None = None
    """Environment variable (never the key itself) with the server's key."""
    dialect: Dialect | None = None
    """What answers at base_url; ``auto`` asks it."""
    passes: tuple[Pass, ...] = Field(default=("structure", "deployed"), min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the engine itself."""
    variants: tuple[str, ...] = ()
    """Names of the variants that it serves; all when left out."""
    fault: AdapterFault | None = None
    """A known fault in its adapter, to see whether it is found (``fleetqual selftest``)."""
    proxy: ProxyFault | None = None
    """A known fault between client and server (``fleetqual selftest``)."""
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Deadline of one child of this engine; the matrix's when left out."""

    @property
    def label(self) -> str:
        """The name that tables show."""
        return self.name or self.engine

    @property
    def served(self) -> Serving:
        """How it is served."""
        return self.serving or DECLARATIONS[self.engine].servings[0]

    @field_validator("version")
    @classmethod
    def _is_a_version(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                Version(value)
            except InvalidVersion:
                raise Mistake(
                    (),
                    f"{value!r} is not a version",
                    fix="write one version such as 0.32.0; leave the key out to take what is there",
                ).raised() from None
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_no_secret(cls, value: str | None) -> str | None:
        if value is not None and (not _VARIABLE.fullmatch(value) or _SECRET.fullmatch(value)):
            raise Mistake(
                (),
                "api_key_env holds what may be a key itself, not the name of a variable",
                fix="export the key as e.g. CANDIDATE_KEY and write `api_key_env: CANDIDATE_KEY`; "
                "if it was a real key, revoke it",
            ).raised()
        return value

    @field_validator("base_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        mistake = None if value is None else bad_address(value)
        if mistake is not None:
            raise mistake.raised()
        return value

    @field_validator("options")
    @classmethod
    def _hold_no_secret(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, name in secret_names(value):
            raise Mistake(
                key,
                f"the option {name!r} looks like a secret, and options are stored with the results",
                fix="export the key, and name its environment variable as `api_key_env:`; "
                "if it was a real key, revoke it",
            ).raised()
        return value

    @field_validator("fault")
    @classmethod
    def _is_a_mutation(cls, value: AdapterFault | None) -> AdapterFault | None:
        if value is not None:
            mistake = unknown_adapter_fault(value)
            if mistake is not None:
                raise mistake.raised()
        return value

    @field_validator("proxy")
    @classmethod
    def _is_a_gateway(cls, value: ProxyFault | None) -> ProxyFault | None:
        mistake = None if value is None else unknown_proxy_fault(value)
        if mistake is not None:
            raise mistake.raised()
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _refuse_twice("pass", "passes", self.passes)
        if self.served == "external" and self.base_url is None:
            raise Mistake(
                (),
                f"engine {self.label!r} is served externally, but has no base_url",
                fix="add `base_url: http://HOST:PORT/v1`",
            ).raised()
        for key in ("base_url", "api_key_env", "dialect"):
            if getattr(self, key) is not None and self.served != "external":
                raise Mistake(
                    (key,),
                    f"{key} has no meaning for serving {self.served}",
                    fix=f"remove it, or add `serving: external` to engine {self.label!r}",
                ).raised()
        if self.proxy is not None and self.served == "in_process":
            raise Mistake(
                ("proxy",),
                "a proxy stands before a server, and this entry has none",
                fix="remove it, or give an entry that is served as managed or external",
            ).raised()
        if self.python is not None and self.version is not None:
            raise Mistake(
                ("version",),
                "version and python both say which environment is taken",
                "version (an installed environment), python (an interpreter, of whatever version)",
                "give only one; the version that an interpreter brings is recorded",
            ).raised()
        mistake = unknown_option(self.engine, self.served, self.options)
        if mistake is None and self.fault is not None:
            mistake = misplaced_adapter_fault(self.engine, self.served, self.dialect, self.fault)
        if mistake is not None:
            raise mistake.raised()
        return self


class Exclusion(Frozen):
    """Combinations that are not to run: those that match every key given."""

    suite: str | None = None
    model: str | None = None
    variant: str | None = None
    engine: str | None = None
    """Name of an entry, or an engine."""
    backend: Backend | None = None
    pass_: Pass | None = Field(default=None, alias="pass")
    hardware: str | None = None
    node: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.model_fields_set:
            raise Mistake(
                (),
                "an exclusion that names nothing would exclude everything",
                ", ".join(f.alias or n for n, f in type(self).model_fields.items()),
                "name what is to be excluded",
            ).raised()
        return self


class ReferenceEntry(Frozen):
    """What freezes the truth where no golden text has it."""

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
                f"{value} can make no reference",
                ", ".join(able),
                "name an engine that runs in process and reads the model's own folder",
            ).raised()
        return value


class Expected(Frozen):
    """A known difference, with a reason: it does not fail a cell, and its absence does."""

    engine: str
    """Name of an entry, or an engine."""
    serving: Serving | None = None
    """How the engine is served where the difference is there; however it is, when left out."""
    versions: str | None = None
    """Version range such as ``>=0.3,<0.4``."""
    stage: Stage
    cases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    signature: str | dict[str, str] | None = None
    """Digest of what the engine gives, for all cases or for each."""
    bound: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Largest effect that is expected, for numeric stages."""
    reason: str = Field(min_length=1)

    @field_validator("versions")
    @classmethod
    def _is_a_range(cls, value: str | None) -> str | None:
        try:
            SpecifierSet(value or "")
        except InvalidSpecifier:
            raise Mistake(
                (), f"{value!r} is not a range of versions", fix="write e.g. '>=0.3,<0.4'"
            ).raised() from None
        return value

    @model_validator(mode="after")
    def _says_what_is_expected(self) -> Self:
        if self.signature is None and self.bound is None:
            raise Mistake(
                (),
                "an expected difference without a signature would excuse every difference",
                "signature (digest of what the engine gives), bound (largest effect)",
                "copy the signature that `fleetqual explain` prints",
            ).raised()
        return self


class HardwareEntry(Frozen):
    """What a buyer pays for one device."""

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
    """Stages that must be qualified; what the suites require when left out."""
    expected: tuple[Expected, ...] = ()
    expected_from: tuple[str, ...] = ()
    """Files of further expected entries, shared by matrices; paths relative to the matrix."""
    hardware: dict[str, HardwareEntry] = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Deadline in seconds of one engine child, which serves all suites of one model variant;
    left out, it is several times what the plan estimates."""
    tries: int = Field(default=1, ge=1, le=10)
    """Attempts at a cell on a node until one is ok."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        _refuse_twice("suite", "suites", self.suites)
        _refuse_twice("model", "models", [m.name for m in self.models])
        _refuse_twice("backend", "backends", self.backends)
        _refuse_twice("stage", "require", self.require or ())
        self._entries_are_told_apart()
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
                    raise Mistake.unknown(("exclude", index, kind), kind, given, names).raised()
        for index, engine in enumerate(self.engines):
            for position, given in enumerate(engine.variants):
                if given not in variants:
                    at: KeyPath = ("engines", index, "variants", position)
                    raise Mistake.unknown(at, "variant", given, variants).raised()
        for index, entry in enumerate(self.expected):
            if entry.engine not in engines:
                key: KeyPath = ("expected", index, "engine")
                raise Mistake.unknown(key, "engine", entry.engine, engines).raised()
        return self

    def _entries_are_told_apart(self) -> None:
        first: dict[str, int] = {}
        for index, entry in enumerate(self.engines):
            if entry.label in first:
                named = bool(entry.name)
                raise Mistake(
                    ("engines", index, "name" if named else "engine"),
                    f"two entries are called {entry.label!r} (the other is "
                    f"engines[{first[entry.label]}])",
                    fix="give each entry its own `name:`",
                ).raised()
            first[entry.label] = index


def load_matrix(path: Path) -> tuple[Matrix, Document]:
    """Read a matrix and keep its positions, for mistakes that only other files show.

    Raises:
        UserError: the file is not a matrix; the message names line, key and cure.
    """
    return load_document(path, Matrix)


def _refuse_twice(kind: str, key: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Mistake(
                (key, index), f"{kind} {name!r} is named twice", fix="remove or rename one"
            ).raised()


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
