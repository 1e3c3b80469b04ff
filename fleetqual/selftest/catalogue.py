"""Catalogues of known faults and benign controls: what is injected where, and who is to blame.

A catalogue is data: it names an incident that was seen in the field, how its mechanism is put into
the shipped model, an engine's options or an engine's adapter, and at which stages it may be placed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from fleetqual.selftest.injections import GgufInjection, HfInjection, Injection, TensorEdit
from runner.engines.registry import DECLARATIONS
from suites.loading import Document, load_document
from suites.mistakes import Mistake
from suites.stages import Pass, Stage
from suites.suite import Frozen

#: The catalogues that are shipped: for building detectors with, kept apart from that, and faults of
#: gateways before servers.
CATALOGUE, HELD_OUT, SERVERS = (
    Path(__file__).resolve().parent / "faults" / f"{name}.yaml"
    for name in ("catalogue", "held_out", "servers")
)

#: Stages that have a suite of their own, of the same name; ``smoke`` asks all others.
_OWN_SUITES = ("state", "sampling")
#: Format → variants of the shipped model; the first is served when none is named.
_VARIANTS = {"gguf": ("f32", "f16", "bf16", "q8_0"), "hf": ("hf",)}
#: Engines that are loaded here, so that faults can be put into them.
_ENGINES = tuple(name for name, own in DECLARATIONS.items() if "in_process" in own.servings)
#: Engines that bring a server which the runner can start.
_WITH_SERVER = tuple(name for name, own in DECLARATIONS.items() if own.own_server)


def variants(engine: str) -> tuple[str, ...]:
    """Return the variants of the shipped model that an engine can serve."""
    return tuple(name for form in DECLARATIONS[engine].formats for name in _VARIANTS[form])


class Fault(Frozen):
    """One known fault, or one benign control that must alarm nothing."""

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """Unique; cells are named after it."""
    incident: str = Field(pattern=r"^[IB][0-9]{3}$")
    """Id of the incident whose mechanism this is."""
    link: str = Field(default="", pattern=r"^(https://\S+)?$")
    """Where the incident was reported."""
    says: str = Field(min_length=1)
    """What goes wrong, in one sentence."""
    stages: tuple[Stage | Literal["interface"], ...] = ()
    """Where it may be placed."""
    engine: str
    serving: Literal["in_process", "managed"] = "in_process"
    """``managed``: the engine's own server is asked."""
    kind: Literal["fault", "control"] = "fault"
    pass_: Pass = Field(default="structure", alias="pass")
    variant: str = ""
    """The shipped artifact that is served, or copied with the fault."""
    suites: tuple[str, ...] = ()
    """Suites that are asked; where left out those of its stages, and all for a control."""
    inject: Injection
    sweep: tuple[float, ...] = ()
    """Strengths that take the place of ``by``, one cell each."""

    @field_validator("engine")
    @classmethod
    def _is_loaded_here(cls, value: str) -> str:
        if value not in _ENGINES:
            raise Mistake.unknown((), "engine", value, _ENGINES).raised()
        return value

    @property
    def served(self) -> str:
        """Name of the variant that is served."""
        return self.variant or variants(self.engine)[0]

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the suites that it is run with."""
        if self.suites:
            return self.suites
        own = [s for s in _OWN_SUITES if self.kind == "control" or s in self.stages]
        return ("smoke", *own)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        known, depth = variants(self.engine), self.inject.depth
        if self.served not in known:
            raise Mistake.unknown(("variant",), "variant", self.variant, known).raised()
        if depth in _VARIANTS and depth not in DECLARATIONS[self.engine].formats:
            what = f"{self.engine} does not read {depth}"
            raise Mistake(("inject", depth), what, fix="inject into what it reads").raised()
        if (self.kind == "fault") != bool(self.stages):
            wanted = "needs stages" if self.kind == "fault" else "has no stage to be placed at"
            raise Mistake(("stages",), f"a {self.kind} {wanted}").raised()
        if depth == "nothing" and self.kind == "fault":
            raise Mistake(
                ("inject",), "a fault that injects nothing", "gguf, hf, options, wrap, proxy"
            ).raised()
        if depth == "proxy" and self.serving != "managed":
            what = "a proxy stands before a server"
            raise Mistake(("inject", "proxy"), what, fix="add `serving: managed`").raised()
        if self.serving == "managed" and self.engine not in _WITH_SERVER:
            what, having = f"{self.engine} brings no server", ", ".join(_WITH_SERVER)
            raise Mistake(("serving",), what, having, "leave the key out").raised()
        if self.sweep and not self._strengths():
            what = "a sweep needs a strength `by` to replace"
            fix = "sweep a tensor edit, a wrapper or a proxy"
            raise Mistake(("sweep",), what, fix=fix).raised()
        return self

    def _strengths(self) -> bool:
        held = self.inject.gguf or self.inject.hf
        acting = self.inject.wrap or self.inject.proxy
        return acting is not None or any(e.by is not None for e in _edits(held))

    def at_strengths(self) -> tuple["Fault", ...]:
        """Return the fault once for each strength of its sweep, as ``<id>@<strength>``.

        The ids are no longer those of the catalogue; :func:`id_and_strength` takes them apart.
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
                raise Mistake(key, f"fault {fault.id!r} is there twice", fix="rename one").raised()
            seen.add(fault.id)
        return self


def load_faults(path: Path) -> tuple[tuple[Fault, ...], Document]:
    """Read a catalogue and keep its positions, for mistakes that only other rooms can see.

    Raises:
        UserError: the file is no catalogue; the message names line, key and cure.
    """
    catalogue, document = load_document(path, Catalogue)
    return catalogue.faults, document


def id_and_strength(name: str) -> tuple[str, float | None]:
    """Take ``<id>@<strength>`` apart; the strength is None for a fault without a sweep."""
    fault, at, by = name.partition("@")
    return fault, float(by) if at else None


def _edits(held: GgufInjection | HfInjection | None) -> Sequence[TensorEdit]:
    return held.tensors if held is not None else ()
