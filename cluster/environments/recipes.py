"""How an engine is installed on each backend: ``recipe.yaml`` and pins in the engine's folder."""

import functools
import platform
import re
from pathlib import Path

from packaging.version import InvalidVersion, Version
from pydantic import Field

from runner.engines.registry import DECLARATIONS, folder_of
from suites.digest import tagged_digest
from suites.errors import UserError
from suites.loading import load_yaml, unknown_name
from suites.stages import Backend
from suites.suite import Frozen

_SPEC = re.compile(r"([A-Za-z0-9_.-]+)(?:==(\S+))?")


class Step(Frozen):
    """One call of the installer."""

    install: tuple[str, ...] = ()
    """Requirements; ``{version}`` stands for the engine's."""
    requirements_of: str | None = None
    """A package of an earlier step, whose own requirements are installed too."""
    without: tuple[str, ...] = ()
    """Which of these are left out."""
    no_deps: bool = False
    """Install nothing that the packages require."""
    from_source: tuple[str, ...] = ()
    """Packages that are compiled here, whatever builds an index offers."""


class BackendRecipe(Frozen):
    """What is different on one backend."""

    systems: tuple[str, ...] = ()
    """Where it can be installed, as ``platform.system()`` calls it; empty: everywhere."""
    steps: tuple[Step, ...] = ()
    """Instead of the engine's."""
    cmake_args: tuple[str, ...] = ()
    """After the engine's."""
    proof: str = ""
    """Python that must not raise in the environment; without it the engine is imported."""
    holds: str = ""
    """Instead of a proof: a file (glob beneath site-packages) that must be there. No library need
    be loaded for it, so it serves on machines that only prepare an image."""
    hint: str = ""
    """What to do where the installation or its proof fails."""


class EngineRecipe(Frozen):
    """What every environment of an engine is made of."""

    known: tuple[str, ...] = Field(min_length=1)
    """Versions that have pins; the first is what ``doctor`` suggests."""
    steps: tuple[Step, ...] = ()
    cmake_args: tuple[str, ...] = ()
    served_with: tuple[str, ...] = ()
    """Packages without which its own server does not start."""
    backends: dict[Backend, BackendRecipe]
    impossible: dict[Backend, str] = Field(default_factory=dict)
    """Why other backends are refused."""


class Recipe(Frozen):
    """How one version of an engine is installed for one backend."""

    engine: str
    version: str
    backend: Backend
    steps: tuple[Step, ...]
    cmake_args: tuple[str, ...]
    own_build: bool
    """Compiled otherwise than on other backends. The installers' caches know compiled packages by
    name and version alone, so they must not be asked."""
    proof: str
    holds: str
    hint: str
    pins: tuple[str, ...]
    """Exact versions of what else is installed."""
    pins_file: str | None
    """Where they stand, as the installer reads them."""

    @property
    def digest(self) -> str:
        """Identity of the recipe: another place of the same files changes nothing."""
        return tagged_digest("recipe1", self.model_dump(mode="json", exclude={"pins_file"}))


@functools.cache
def recipes() -> dict[str, EngineRecipe]:
    """Return engine → recipe, for every engine whose folder has one."""
    files = ((name, folder_of(name) / "recipe.yaml") for name in DECLARATIONS)
    return {name: load_yaml(path, EngineRecipe) for name, path in files if path.is_file()}


def parse_spec(text: str) -> tuple[str, str]:
    """Return engine and version of ``ENGINE==VERSION``.

    Raises:
        UserError: it is written otherwise, or no such engine can be installed.
    """
    found = _SPEC.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{text!r} is not ENGINE==VERSION", fix=_examples())
    engine, version = found.groups()
    if engine in DECLARATIONS and _needs_none(engine):
        raise UserError(
            f"{engine} needs no environment: it is whatever answers at a URL",
            fix="give its base_url in the matrix",
        )
    known = recipes().get(engine)
    if known is None:
        raise unknown_name("engine", engine, list(recipes()))
    if version is None:
        raise UserError(
            f"{engine} without a version: environments are of one version each",
            known=", ".join(known.known),
            fix=f"{engine}=={known.known[0]}",
        )
    try:
        return engine, str(Version(version))
    except InvalidVersion as error:
        raise UserError(
            f"{version!r} is not a version of {engine}",
            known=", ".join(known.known),
            fix=f"{engine}=={known.known[0]}",
        ) from error


def recipe(engine: str, version: str, backend: str) -> Recipe:
    """Return how to install an engine here.

    Raises:
        UserError: the engine does not compute on this backend, or not on this system.
    """
    whole = recipes()[engine]
    possible = {str(name): (name, own) for name, own in whole.backends.items()}
    if backend not in possible:
        why = next((w for name, w in whole.impossible.items() if name == backend), None)
        if why is None:
            raise unknown_name("backend", backend, list(possible))
        raise UserError(f"{engine} cannot be had for {backend}: {why}", known=", ".join(possible))
    name, own = possible[backend]
    if not _fits(own):
        raise UserError(
            f"{engine} for {backend} is installed on {' or '.join(own.systems)}, "
            f"and this is {platform.system()}",
            known=", ".join(backends_here(engine)) or "no backend of it on this system",
        )
    pins = _pins(engine, version, backend)
    return Recipe(
        engine=engine,
        version=version,
        backend=name,
        steps=tuple(_of_version(step, version) for step in own.steps or whole.steps),
        cmake_args=(*whole.cmake_args, *own.cmake_args),
        own_build=bool(own.cmake_args),
        proof=own.proof or f"import {DECLARATIONS[engine].module}",
        holds=own.holds,
        hint=own.hint,
        pins=_lines(pins) if pins else (),
        pins_file=str(pins) if pins else None,
    )


def backends_here(engine: str) -> tuple[Backend, ...]:
    """Return the backends for which an engine can be installed on this system."""
    whole = recipes().get(engine)
    return tuple(name for name, own in whole.backends.items() if _fits(own)) if whole else ()


def known_version(engine: str) -> str | None:
    """Return the version of an engine to suggest; None for one that needs no environment."""
    found = recipes().get(engine)
    return found.known[0] if found else None


def _needs_none(engine: str) -> bool:
    return DECLARATIONS[engine].servings == ("external",)


def _fits(own: BackendRecipe) -> bool:
    return not own.systems or platform.system() in own.systems


def _of_version(step: Step, version: str) -> Step:
    filled = tuple(text.replace("{version}", version) for text in step.install)
    return step.model_copy(update={"install": filled})


def _pins(engine: str, version: str, backend: str) -> Path | None:
    folder = folder_of(engine) / "pins"
    names = (f"{version}-{backend}.txt", f"{version}.txt")
    return next((path for path in map(folder.joinpath, names) if path.is_file()), None)


def _lines(path: Path) -> tuple[str, ...]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def _examples() -> str:
    return "for example " + ", ".join(f"{n}=={r.known[0]}" for n, r in recipes().items())
