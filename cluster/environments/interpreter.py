"""Which interpreter runs an engine on this machine.

Engines need different versions of the same libraries. So each has its own virtual environment,
named ``<engine>`` or ``<engine>-<version>``, in one root folder.
"""

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.version import InvalidVersion, Version

from cluster.environments.recipes import known_version
from cluster.environments.record import is_unfinished, python_of, site_packages
from runner.engines.registry import DECLARATIONS

_ASK_S = 10.0
#: Script that prints a package's version; packages in the working directory do not count.
_QUESTION = """
import sys; sys.path.pop(0)
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""


def environments_root() -> Path:
    """Return ``FLEETQUAL_ENVIRONMENTS``, else ``engines`` in the running environment."""
    given = os.environ.get("FLEETQUAL_ENVIRONMENTS")
    return Path(os.path.expanduser(given)) if given else Path(sys.prefix) / "engines"


def interpreter(
    engine: str, version_asked: str | None = None, python: str | None = None
) -> str | None:
    """Return the interpreter for an engine, or None where this machine has none.

    Args:
        engine: the engine, as in ``DECLARATIONS``. One that is only reached at a URL needs no
            environment: the running interpreter is returned for every version.
        version_asked: accepts only ``<engine>-<version>`` in the root, or the running
            environment if it has this version.
        python: the interpreter that the matrix names. It wins, even if it does not exist: then
            the attempt fails with a message, and no other environment is used silently.
    """
    if python is not None:
        return python
    if needs_no_environment(engine):
        return sys.executable
    folders = [f for f in environment_folders(engine) if _usable(f)]
    if version_asked is not None:
        folders = [f for f in folders if same_version(version_in_name(engine, f), version_asked)]
    if folders:
        return str(python_of(folders[-1]))
    declaration = DECLARATIONS.get(engine)
    if declaration is None or importlib.util.find_spec(declaration.module) is None:
        return None
    if version_asked is not None:
        own = installed_version(engine, sys.executable)
        return sys.executable if own and same_version(own, version_asked) else None
    return sys.executable


def needs_no_environment(engine: str) -> bool:
    """Whether an engine is only reached at a URL."""
    declaration = DECLARATIONS.get(engine)
    return declaration is not None and declaration.servings == ("external",)


def installed_version(engine: str, python: str) -> str | None:
    """Return the version of an engine in an interpreter's environment, without starting it."""
    packages = _packages(engine)
    if python == sys.executable:
        return next((found for p in packages if (found := _own_version(p))), None)
    places = site_packages(Path(python).absolute().parent.parent)
    found_in = (d for p in packages for d in distributions(name=p, path=places))
    return next((d.version for d in found_in), None)


@functools.cache
def answered_version(engine: str, python: str) -> str | None:
    """Return the version of an engine that an interpreter reports; None if it cannot.

    The interpreter is started: a matrix can name any, so the folder of its packages is unknown.
    """
    packages = _packages(engine)
    if not packages:
        return None
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, "-c", _QUESTION, *packages],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=_ASK_S,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def command_that_adds(
    engine: str, version_asked: str | None = None, backend: str | None = None
) -> str:
    """Return the command that installs the engine on this machine."""
    if engine not in DECLARATIONS:
        return f"fleetqual has no adapter for {engine}"
    if needs_no_environment(engine):
        return f"{engine} needs no environment: write its base_url in the matrix"
    wanted = version_asked or known_version(engine)
    if wanted is None:
        return f"no recipe installs {engine}: write `python:` with an interpreter that has it"
    return f"fleetqual engine install {engine}=={wanted}" + (
        f" --backend {backend}" if backend else ""
    )


def environment_folders(engine: str) -> list[Path]:
    """Return the environment folders of an engine, the newest version last."""
    root = environments_root()
    found = [
        folder
        for folder in (root.iterdir() if root.is_dir() else ())
        if (folder.name == engine or folder.name.startswith(f"{engine}-")) and folder.is_dir()
    ]
    return sorted(found, key=lambda f: (_sortable(version_in_name(engine, f)), f.name))


def version_in_name(engine: str, folder: Path) -> str:
    """Return the version in a folder's name; empty if there is none."""
    return folder.name.removeprefix(engine)[1:]


def same_version(one: str, other: str) -> bool:
    """Whether two texts name the same version: ``0.32`` is ``0.32.0``."""
    try:
        return Version(one) == Version(other)
    except InvalidVersion:
        return one == other


def _usable(folder: Path) -> bool:
    return python_of(folder).exists() and not is_unfinished(folder)


def _packages(engine: str) -> Sequence[str]:
    declaration = DECLARATIONS.get(engine)
    return declaration.packages if declaration else ()


def _own_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sortable(text: str) -> Version:
    """Return a version to sort by; anything else sorts first."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0.dev0")
