"""Catalogues of known faults and benign controls: what is injected where, and which stage is right.

A catalogue is data: it names an incident that was seen in the field, how a fault imitates it (in
the shipped model, an engine's options, its adapter or a proxy), and the stages that are accepted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fleetqual.selftest.injections import GgufInjection, HfInjection, Injection, TensorEdit
from runner.engines.registry import DECLARATIONS
from suites.loading import load_document
from suites.mistakes import Mistake
from suites.stages import Pass, Stage
from suites.suite import Frozen
from suites.yaml_document import Document

#: The shipped catalogues: faults for the development of detectors, held-out faults, and faults of
#: proxies in front of servers.
CATALOGUE, HELD_OUT, SERVERS = (
    Path(__file__).resolve().parent / "faults" / f"{name}.yaml"
    for name in ("catalogue", "held_out", "servers")
)

#: Stages that have their own suite of the same name; ``smoke`` covers all other stages.
_OWN_SUITES = ("state", "sampling")
#: Format → variants of the shipped model; the first is the default.
_VARIANTS = {"gguf": ("f32", "f16", "bf16", "q8_0"), "hf": ("hf",)}
#: Engines that run in process, so that faults can be injected into them.
_ENGINES = tuple(name for name, own in DECLARATIONS.items() if "in_process" in own.servings)
#: Engines with a server that the runner can start.
_WITH_SERVER = tuple(name for name, own in DECLARATIONS.items() if own.own_server)


def variants(engine: str) -> tuple[str, ...]:
    """Return the variants of the shipped model that an engine can serve."""
    return tuple(name for form in DECLARATIONS[engine].formats for name in _VARIANTS[form])


class Fault(Frozen):
    """One known fault, or one benign control that must raise no alarm."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Unique; it is part of the names of its cells."""
    incident: str = Field(pattern=r"^[IB][0-9]{3}$")
    """Id of the incident that it imitates."""
    link: str = Field(default="", pattern=r"^(https://\S+)?$")
    """Where the incident was reported."""
    says: str = Field(min_length=1)
    """What goes wrong, in one sentence."""
    stages: tuple[Stage | Literal["interface"], ...] = ()
    """Stages at which it may be placed."""
    engine: str
    serving: Literal["in_process", "managed"] = "in_process"
    """``managed``: the requests go to the engine's own server."""
    kind: Literal["fault", "control"] = "fault"
    pass_: Pass = Field(default="structure", alias="pass")
    variant: str = ""
    """The shipped artifact that is served, or copied with the fault."""
    suites: tuple[str, ...] = ()
    """Suites to run; by default those of its stages, and all of them for a control."""
    inject: Injection
    sweep: tuple[float, ...] = ()
    """Strengths that replace ``by``, one cell for each."""

    @field_validator("engine")
    @classmethod
    def _is_loaded_here(cls, value: str) -> str:
        if value not in _ENGINES:
            raise Mistake.unknown((), "engine", value, _ENGINES).pydantic_error()
        return value

    @property
    def served_variant(self) -> str:
        """Name of the variant that is served."""
        return self.variant or variants(self.engine)[0]

    @property
    def suite_names(self) -> tuple[str, ...]:
        """Names of all suites that it needs."""
        if self.suites:
            return self.suites
        own = [s for s in _OWN_SUITES if self.kind == "control" or s in self.stages]
        return ("smoke", *own)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        known, depth = variants(self.engine), self.inject.depth
        if self.served_variant not in known:
            raise Mistake.unknown(("variant",), "variant", self.variant, known).pydantic_error()
        if depth in _VARIANTS and depth not in DECLARATIONS[self.engine].formats:
            what, fix = f"{self.engine} does not read {depth} files", "inject into another format"
            raise Mistake(("inject", depth), what, fix=fix).pydantic_error()
        if (self.kind == "fault") != bool(self.stages):
            wanted = "needs stages" if self.kind == "fault" else "has no stages"
            raise Mistake(
                ("stages",), f"a {self.kind} {wanted}", fix="see `kind:`"
            ).pydantic_error()
        if depth == "nothing" and self.kind == "fault":
            raise Mistake(
                ("inject",),
                "the fault injects nothing",
                "gguf, hf, options, wrap, proxy",
                "add one of them",
            ).pydantic_error()
        if depth == "proxy" and self.serving != "managed":
            what = "a proxy needs a server"
            raise Mistake(("inject", "proxy"), what, fix="add `serving: managed`").pydantic_error()
        if self.serving == "managed" and self.engine not in _WITH_SERVER:
            what, having = f"{self.engine} has no server", ", ".join(_WITH_SERVER)
            raise Mistake(("serving",), what, having, "remove the key").pydantic_error()
        if self.sweep and not self._strengths():
            what = "a sweep needs a strength `by`, which it replaces"
            fix = "sweep a tensor edit, `wrap:` or `proxy:`"
            raise Mistake(("sweep",), what, fix=fix).pydantic_error()
        return self

    def _strengths(self) -> bool:
        held = self.inject.gguf or self.inject.hf
        acting = self.inject.wrap or self.inject.proxy
        return acting is not None or any(e.by is not None for e in _edits(held))

    def at_strengths(self) -> tuple["Fault", ...]:
        """Return the fault once for each strength of its sweep, as ``<id>@<strength>``.

        The ids differ from those of the catalogue; :func:`id_and_strength` splits them.
        """
        return tuple(self._at(by) for by in self.sweep) or (self,)

    def _at(self, by: float) -> "Fault":
        inject = self.inject
        for name in ("gguf", "hf"):
            held = getattr(inject, name)
            if held is not None:
                edits = [
                    e if e.by is None else e.model_copy(update={"by": by}) for e in held.tensors
                ]
                update: dict[str, Any] = {name: held.model_copy(update={"tensors": tuple(edits)})}
        if inject.wrap is not None:
            update = {"wrap": inject.wrap.model_copy(update={"by": by})}
        if inject.proxy is not None:
            update = {"proxy": inject.proxy.model_copy(update={"by": by})}
        return self.model_copy(
            update={
                "id": f"{self.id}@{by:g}",
                "inject": inject.model_copy(update=update),
                "sweep": (),
            }
        )


class Catalogue(Frozen):
    """A file of faults."""

    faults: tuple[Fault, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: set[str] = set()
        for index, fault in enumerate(self.faults):
            if fault.id in seen:
                key = ("faults", index, "id")
                raise Mistake(
                    key, f"fault id {fault.id!r} is used twice", fix="rename one"
                ).pydantic_error()
            seen.add(fault.id)
        return self


def load_faults(path: Path) -> tuple[tuple[Fault, ...], Document]:
    """Read a catalogue and keep its lines, for mistakes that are found later.

    Raises:
        UserError: the file is not a catalogue; the message names the line, the key and the fix.
    """
    catalogue, document = load_document(path, Catalogue)
    return catalogue.faults, document


def id_and_strength(name: str) -> tuple[str, float | None]:
    """Split ``<id>@<strength>``; the strength is None for a fault without a sweep."""
    fault, at, by = name.partition("@")
    return fault, float(by) if at else None


def _edits(held: GgufInjection | HfInjection | None) -> Sequence[TensorEdit]:
    return held.tensors if held is not None else ()
