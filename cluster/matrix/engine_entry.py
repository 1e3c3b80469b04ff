"""An engine entry of the matrix: which engine, how it is served, with which options."""

import re
from typing import Annotated, Any, Self

from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, field_validator, model_validator

from cluster.matrix.entry_checks import (
    NAME,
    bad_address,
    known_dialect,
    known_engine,
    misplaced_adapter_fault,
    mistyped_option,
    refuse_duplicates,
    unknown_adapter_fault,
    unknown_option,
    unknown_proxy_fault,
)
from cluster.matrix.injected_faults import AdapterFault, ProxyFault
from cluster.matrix.secret_names import secret_names
from runner.engines.registry import DECLARATIONS
from suites.mistakes import Mistake
from suites.stages import Pass, Serving, Stage
from suites.suite import Frozen

EngineKind = Annotated[str, AfterValidator(known_engine)]
Dialect = Annotated[str, AfterValidator(known_dialect)]

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_SECRET = re.compile(r"(AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}|[A-F0-9]{24,}")


class EngineEntry(Frozen):
    """One engine and how to run it."""

    engine: EngineKind
    name: str = Field(default="", pattern=rf"^$|{NAME}")
    """Name in tables; the engine's name by default."""
    version: str | None = None
    """Version of an installed environment ``<engine>-<version>``; by default the newest one."""
    python: str | None = None
    """Interpreter of the engine's environment, relative to the matrix; replaces ``version``."""
    serving: Serving | None = None
    """By default the first serving that the engine declares."""
    base_url: str | None = None
    """Address of an external server."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's key; never the key itself."""
    dialect: Dialect | None = None
    """Which server answers at base_url; ``auto`` asks the server."""
    passes: tuple[Pass, ...] = Field(default=("structure", "deployed"), min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the engine itself."""
    variants: tuple[str, ...] = ()
    """Names of the variants that it serves; all by default."""
    require: tuple[Stage, ...] | None = Field(default=None, min_length=1)
    """Stages that must be qualified on this entry, such as those that a server shows; by default
    those of the matrix."""
    fault: AdapterFault | None = None
    """A known fault in its adapter, to test the detection (``fleetqual selftest``)."""
    proxy: ProxyFault | None = None
    """A fault-injecting proxy in front of its server (``fleetqual selftest``)."""
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Deadline of one child of this engine in seconds; the matrix's by default."""

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.name or self.engine

    @property
    def served(self) -> Serving:
        """How it is served, with the default filled in."""
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
                    fix="write one version such as 0.32.0, or remove the key",
                ).pydantic_error() from None
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_no_secret(cls, value: str | None) -> str | None:
        if value is not None and (not _VARIABLE.fullmatch(value) or _SECRET.fullmatch(value)):
            raise Mistake(
                (),
                "api_key_env may hold the key itself instead of the name of a variable",
                fix="export the key as e.g. CANDIDATE_KEY and write `api_key_env: CANDIDATE_KEY`; "
                "if it is a real key, revoke it",
            ).pydantic_error()
        return value

    @field_validator("base_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        mistake = None if value is None else bad_address(value)
        if mistake is not None:
            raise mistake.pydantic_error()
        return value

    @field_validator("options")
    @classmethod
    def _hold_no_secret(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, name in secret_names(value):
            raise Mistake(
                key,
                f"the option {name!r} looks like a secret, and options are stored with the results",
                fix="export the key and write the variable's name as `api_key_env:`; "
                "if it is a real key, revoke it",
            ).pydantic_error()
        return value

    @field_validator("fault")
    @classmethod
    def _adapter_fault_is_known(cls, value: AdapterFault | None) -> AdapterFault | None:
        if value is not None:
            mistake = unknown_adapter_fault(value)
            if mistake is not None:
                raise mistake.pydantic_error()
        return value

    @field_validator("proxy")
    @classmethod
    def _proxy_fault_is_known(cls, value: ProxyFault | None) -> ProxyFault | None:
        mistake = None if value is None else unknown_proxy_fault(value)
        if mistake is not None:
            raise mistake.pydantic_error()
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        refuse_duplicates("pass", "passes", self.passes)
        refuse_duplicates("stage", "require", self.require or ())
        if self.served == "external" and self.base_url is None:
            raise Mistake(
                (),
                f"engine {self.label!r} is external but has no base_url",
                fix="add `base_url: http://HOST:PORT/v1`",
            ).pydantic_error()
        for key in ("base_url", "api_key_env", "dialect"):
            if getattr(self, key) is not None and self.served != "external":
                raise Mistake(
                    (key,),
                    f"{key} has no effect with serving {self.served}",
                    fix=f"remove it, or add `serving: external` to engine {self.label!r}",
                ).pydantic_error()
        if self.proxy is not None and self.served == "in_process":
            raise Mistake(
                ("proxy",),
                "a proxy needs a server, and this entry has none",
                fix="remove it, or set `serving:` to managed or external",
            ).pydantic_error()
        if self.python is not None and self.version is not None:
            raise Mistake(
                ("version",),
                "version and python both select the environment",
                "version (an installed environment), python (an interpreter with any version)",
                "give only one; the interpreter's version is recorded anyway",
            ).pydantic_error()
        mistake = unknown_option(self.engine, self.served, self.options)
        if mistake is None:
            mistake = mistyped_option(self.engine, self.options)
        if mistake is None and self.fault is not None:
            mistake = misplaced_adapter_fault(self.engine, self.served, self.dialect, self.fault)
        if mistake is not None:
            raise mistake.pydantic_error()
        return self
