"""``fleetqual engine install``: which environment is wanted, and what is done with an old one."""

from pathlib import Path

from cluster.environments.build import NotInstalled, build
from cluster.environments.interpreter import (
    environment_folders,
    environments_root,
    same_version,
    version_in_name,
)
from cluster.environments.inventory import Environment, environment_in, exclusive_access
from cluster.environments.recipes import Recipe, backends_here, parse_spec, recipe
from cluster.environments.record import read_record
from cluster.environments.replacement import ended_by_signal, replacing, restore_interrupted
from runner.machine import this_machine
from suites.errors import UserError

__all__ = ["NotInstalled", "install"]


def install(asked: str, backend: str | None = None, *, replace: bool = False) -> str:
    """Install an engine in its own environment; return a sentence that says what was done.

    Args:
        asked: ``ENGINE==VERSION``.
        backend: backend to install for; by default this machine's first one, accelerators first.
        replace: reinstall if the environment was built from a different recipe.

    Raises:
        UserError: it cannot be installed here, or an environment from a different recipe exists.
        NotInstalled: the installer failed, or the installed engine does not work.
    """
    engine, version = parse_spec(asked)
    wanted = recipe(engine, version, backend or _backend_of_this_machine(engine))
    root = _created(environments_root())
    with exclusive_access(root):
        folder = _folder(engine, version, root)
        restore_interrupted(folder)
        if folder.exists():
            there = environment_in(engine, folder)
            if _same(there, folder, wanted):
                return (
                    f"{engine} {there.version} for {wanted.backend} is installed already: {folder}"
                )
            if not replace:
                return _kept_or_refused(there, wanted)
        with replacing(folder), ended_by_signal():
            record = build(wanted, folder)
    held = f"{len(record.packages)} packages with {record.installer}"
    return f"installed {engine} {record.version} for {wanted.backend} in {folder} ({held})"


def _backend_of_this_machine(engine: str) -> str:
    """Return the first backend of this machine that the engine supports, accelerators first."""
    possible = backends_here(engine)
    here = this_machine(visible_only=True).hardware
    found = next((b for b in here if b in possible), None)
    if found is None:
        raise UserError(
            f"{engine} supports no backend of this machine",
            where=f"this machine ({', '.join(here)})",
            known=", ".join(possible) or "no backend on this system",
            fix="give --backend to install for another machine",
        )
    return found


def _created(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder of environments cannot be created: {error.strerror or error}",
            where=str(root),
            fix="set FLEETQUAL_ENVIRONMENTS to a folder that you may write to",
        ) from error
    return root


def _folder(engine: str, version: str, root: Path) -> Path:
    """Return the folder of this version (0.32 is the same as 0.32.0), whether it exists or not."""
    same = (
        f for f in environment_folders(engine) if same_version(version_in_name(engine, f), version)
    )
    return next(same, root / f"{engine}-{version}")


def _same(there: Environment, folder: Path, wanted: Recipe) -> bool:
    record = read_record(folder)
    return there.state == "ready" and record is not None and record.recipe == wanted.digest


def _kept_or_refused(there: Environment, wanted: Recipe) -> str:
    """Return a sentence about an environment from an older recipe; refuse any other.

    Raises:
        UserError: it is broken, made by hand, or for another backend.
    """
    fix = "add --replace to reinstall it"
    if there.state == "older recipe" and there.backend == wanted.backend:
        return f"{there.engine} {there.version} is installed, from an older recipe ({fix})"
    if there.state == "broken":
        what = "its interpreter is missing"
    elif there.backend is None:
        what = "it was made by hand, so its backend is unknown; it is used as it is"
    else:
        what = f"for {there.backend}, and a machine has only one environment for each version"
    raise UserError(
        f"{there.engine} {there.version} is installed already: {what}", where=there.where, fix=fix
    )
