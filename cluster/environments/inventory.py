"""The environments of this machine: what each holds, and how one is removed."""

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

State = Literal["ready", "older recipe", "no record", "unfinished", "broken"]
#: States in which an environment is used.
USED: tuple[State, ...] = ("ready", "older recipe", "no record")


class Environment(Frozen):
    """One environment beneath the root."""

    engine: str
    version: str
    """Of the engine; empty where neither its packages nor the folder's name tell."""
    backend: Backend | None
    """What it was installed for; None if that was not recorded."""
    serving: tuple[Serving, ...]
    """How the engine can be asked in it."""
    packages: int
    """Packages in it; those recorded, where there is a record."""
    size: int
    """Bytes."""
    state: State
    """``ready``; ``older recipe``: recorded, and today's recipe would make it otherwise;
    ``no record``: made by hand, used as it is; ``unfinished``: being made or removed, or such work
    was broken off; ``broken``: its interpreter is gone."""
    where: str
    python: str


def environments() -> list[Environment]:
    """Return the environments beneath the root, those of an engine by version."""
    return [
        environment_in(engine, folder)
        for engine in recipes()
        for folder in environment_folders(engine)
    ]


def environment_in(engine: str, folder: Path) -> Environment:
    """Return what is known of the environment in a folder."""
    record = read_record(folder)
    python = python_of(folder)
    packages = record.packages if record else packages_in(folder)
    told = record.version if record else installed_version(engine, str(python))
    state = _state(engine, folder)
    return Environment(
        engine=engine,
        version=told or version_in_name(engine, folder),
        backend=record.backend if record else None,
        serving=_serving(engine, set(packages)) if state in USED else (),
        packages=len(packages),
        size=_size(folder),
        state=state,
        where=str(folder),
        python=str(python),
    )


def remove(asked: str) -> Environment:
    """Remove an environment and return what it was.

    Args:
        asked: ``ENGINE==VERSION``, or the name of a folder beneath the root.

    Raises:
        UserError: there is no such environment, or the folder is a link to somewhere else.
    """
    found = next((e for e in environments() if Path(e.where).name == asked), None) or _asked(asked)
    folder = Path(found.where)
    if folder.is_symlink():
        raise UserError(
            f"{folder} is a link to {os.readlink(folder)}: what it leads to is not removed",
            fix="remove the link by hand",
        )
    with alone_in(folder.parent):
        # Marked first: what is left of an environment must never be taken for a whole one.
        begin(folder)
        shutil.rmtree(folder)
    return found


@contextmanager
def alone_in(root: Path) -> Iterator[None]:
    """Wait until nobody else makes or removes environments beneath the root, then keep others off.

    A process that dies lets go; a file system without locks has nothing to hold.
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
            print(f"waiting for other work on the environments in {root} …", file=sys.stderr)
            fcntl.flock(held, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
    finally:
        os.close(held)


def _asked(asked: str) -> Environment:
    there = environments()
    known = ", ".join(Path(e.where).name for e in there) or "no environment at all"
    root = environments_root()
    if os.sep in asked or asked in (os.curdir, os.pardir):
        what = f"{asked!r} is a path: only environments beneath {root} are removed, by name"
        raise UserError(what, known=known)
    engine, version = parse_spec(asked)
    same = [e for e in there if e.engine == engine and _is_version(e, version)]
    if not same:
        raise UserError(f"there is no environment of {asked}", where=str(root), known=known)
    return same[0]


def _is_version(environment: Environment, version: str) -> bool:
    name = version_in_name(environment.engine, Path(environment.where))
    return same_version(name, version)


def _state(engine: str, folder: Path) -> State:
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
    """Return how the engine can be asked where these packages are."""
    servable = packages.issuperset(recipes()[engine].served_with)
    known: tuple[Serving, ...] = ("in_process", "managed")
    offered = [s for s in known if s in DECLARATIONS[engine].servings]
    return tuple(s for s in offered if s != "managed" or servable)


def _size(folder: Path) -> int:
    """Return the bytes beneath a folder; files that vanish meanwhile count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
