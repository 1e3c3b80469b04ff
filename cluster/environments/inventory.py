"""The engines' environments on this machine: what each contains, and how one is removed."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from cluster.environments.interpreter import (
    environment_folders,
    environments_root,
    installed_version,
    same_version,
    version_in_name,
)
from cluster.environments.recipes import backends_here, parse_spec, recipe, recipes
from cluster.environments.record import begin, is_unfinished, packages_in, python_of, read_record
from runner.engines.registry import DECLARATIONS
from suites.errors import UserError
from suites.stages import Backend, Serving
from suites.suite import Frozen

EnvironmentState = Literal["ready", "older recipe", "no record", "unfinished", "broken"]
#: States of environments that are used.
USED: tuple[EnvironmentState, ...] = ("ready", "older recipe", "no record")


class Environment(Frozen):
    """One environment in the root folder."""

    engine: str
    version: str
    """Version of the engine; empty if neither its packages nor the folder's name have one."""
    backend: Backend | None
    """The backend it was installed for; None if there is no record."""
    serving: tuple[Serving, ...]
    """How the engine can be served from it."""
    packages: int
    """Number of packages; from the record if there is one."""
    size: int
    """Bytes."""
    state: EnvironmentState
    """``ready``; ``older recipe``: its recipe has changed since; ``no record``: made by hand,
    used as it is; ``unfinished``: being built or removed, or that was interrupted;
    ``broken``: its interpreter is missing."""
    where: str
    python: str


def environments() -> list[Environment]:
    """Return all environments, grouped by engine, in the order of their versions."""
    return [
        environment_in(engine, folder)
        for engine in recipes()
        for folder in environment_folders(engine)
    ]


def environment_in(engine: str, folder: Path) -> Environment:
    """Return what is known about the environment in a folder."""
    record = read_record(folder)
    python = python_of(folder)
    packages = record.packages if record else packages_in(folder)
    version = record.version if record else installed_version(engine, str(python))
    state = _state(engine, folder)
    return Environment(
        engine=engine,
        version=version or version_in_name(engine, folder),
        backend=record.backend if record else None,
        serving=_serving(engine, set(packages)) if state in USED else (),
        packages=len(packages),
        size=_size(folder),
        state=state,
        where=str(folder),
        python=str(python),
    )


def remove(asked: str) -> Environment:
    """Remove an environment; return what it was.

    Args:
        asked: ``ENGINE==VERSION``, or the name of a folder in the root.

    Raises:
        UserError: there is no such environment, or the folder is a symbolic link.
    """
    found = next((e for e in environments() if Path(e.where).name == asked), None) or _asked(asked)
    folder = Path(found.where)
    if folder.is_symlink():
        raise UserError(
            f"{folder} is a symbolic link to {os.readlink(folder)}, and links are not followed",
            fix="remove the link yourself",
        )
    with exclusive_access(folder.parent):
        # Marked first: a half-removed environment must not be used.
        begin(folder)
        shutil.rmtree(folder)
    return found


@contextmanager
def exclusive_access(root: Path) -> Iterator[None]:
    """Hold the root's lock, so that no other process builds or removes environments meanwhile.

    A process that dies releases it. On a file system without locks nothing is held.
    """
    if os.name == "nt":
        yield
        return
    import fcntl

    held = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that changes {root} …", file=sys.stderr)
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(held)


def _asked(asked: str) -> Environment:
    there = environments()
    known = ", ".join(Path(e.where).name for e in there) or "no environments"
    root = environments_root()
    if os.sep in asked or asked in (os.curdir, os.pardir):
        what = f"{asked!r} is a path; give the name of an environment in {root}"
        raise UserError(what, known=known)
    engine, version = parse_spec(asked)
    same = [e for e in there if e.engine == engine and _is_version(e, version)]
    if not same:
        raise UserError(f"there is no environment of {asked}", where=str(root), known=known)
    return same[0]


def _is_version(environment: Environment, version: str) -> bool:
    name = version_in_name(environment.engine, Path(environment.where))
    return same_version(name, version)


def _state(engine: str, folder: Path) -> EnvironmentState:
    if is_unfinished(folder):
        return "unfinished"
    if not python_of(folder).exists():
        return "broken"
    record = read_record(folder)
    if record is None:
        return "no record"
    if record.backend not in backends_here(engine):
        return "older recipe"
    today = recipe(engine, record.version, record.backend)
    return "ready" if record.recipe == today.digest else "older recipe"


def _serving(engine: str, packages: set[str]) -> tuple[Serving, ...]:
    """Return how the engine can be served with these packages."""
    servable = packages.issuperset(recipes()[engine].served_with)
    known: tuple[Serving, ...] = ("in_process", "managed")
    offered = [s for s in known if s in DECLARATIONS[engine].servings]
    return tuple(s for s in offered if s != "managed" or servable)


def _size(folder: Path) -> int:
    """Return the bytes in a folder; files that disappear meanwhile count as 0."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
