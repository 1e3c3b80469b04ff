"""Which interpreter runs an engine on this machine.

Engines disagree about their libraries, so each may have an environment of its own: plain virtual
environments named ``<engine>`` or ``<engine>-<version>`` beneath one root.
"""

import functools
import importlib.util
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.version import InvalidVersion, Version

from runner.child.adapters import DECLARATIONS

_ASK_S = 10.0
#: What an interpreter is asked for a version; a folder that happens to be the current one is no
#: place to find packages.
_QUESTION = (
    "import sys; sys.path.pop(0); from importlib.metadata import version; "
    "print(version(sys.argv[1]))"
)


def environments_root() -> Path:
    """Return ``FLEETQUAL_ENVIRONMENTS``, else ``engines`` in the running environment."""
    given = os.environ.get("FLEETQUAL_ENVIRONMENTS")
    return Path(os.path.expanduser(given)) if given else Path(sys.prefix) / "engines"


def interpreter(
    engine: str, version_asked: str | None = None, python: str | None = None
) -> str | None:
    """Return the interpreter for an engine, or None where this machine has none.

    Args:
        engine: the engine, as in ``DECLARATIONS``.
        version_asked: takes only ``<engine>-<version>`` beneath the root, or a running
            environment that holds just this version.
        python: the matrix's own choice, which wins; it is returned even if it does not exist, so
            that the attempt says so instead of another environment being taken in silence.
    """
    if python is not None:
        return python
    folders = _folders(engine)
    if version_asked is not None:
        folders = [f for f in folders if f.name == f"{engine}-{version_asked}"]
    if folders:
        return str(_python(folders[-1]))
    declaration = DECLARATIONS.get(engine)
    if declaration is None or importlib.util.find_spec(declaration.module) is None:
        return None
    if version_asked is not None and installed_version(engine, sys.executable) != version_asked:
        return None
    return sys.executable


def installed_version(engine: str, python: str) -> str | None:
    """Return the version of an engine in an interpreter's environment, without starting it."""
    declaration = DECLARATIONS.get(engine)
    if declaration is None:
        return None
    if python == sys.executable:
        try:
            return version(declaration.package)
        except PackageNotFoundError:
            return None
    home = Path(python).absolute().parent.parent
    places = [*home.glob("lib*/python*/site-packages"), home / "Lib" / "site-packages"]
    found = distributions(name=declaration.package, path=[str(p) for p in places])
    return next((d.version for d in found), None)


@functools.cache
def answered_version(engine: str, python: str) -> str | None:
    """Return the version of an engine as an interpreter itself tells it; None if it cannot.

    Any interpreter may be named in a matrix, so the place of its packages cannot be guessed.
    """
    declaration = DECLARATIONS.get(engine)
    if declaration is None:
        return None
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, "-c", _QUESTION, declaration.package],
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


def command_that_adds(engine: str, version_asked: str | None = None) -> str:
    """Return what to type so that this machine gets the engine."""
    if engine not in DECLARATIONS:
        return f"fleetqual has no adapter for {engine} yet"
    folder = environments_root() / (f"{engine}-{version_asked}" if version_asked else engine)
    pin = f"=={version_asked}" if version_asked else ""
    own = f"python -m venv {folder} && {_python(folder)} -m pip install numpy "
    own += f"{DECLARATIONS[engine].package}{pin}"
    return own if version_asked else f"make engines (or: {own})"


def _folders(engine: str) -> list[Path]:
    """Return the engine's environments beneath the root, the newest version last."""
    root = environments_root()
    found = [
        folder
        for folder in (root.iterdir() if root.is_dir() else ())
        if (folder.name == engine or folder.name.startswith(f"{engine}-"))
        and _python(folder).exists()
    ]
    return sorted(found, key=lambda f: (_version(f.name.removeprefix(engine)[1:]), f.name))


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _version(text: str) -> Version:
    """Return a sortable version; what is none sorts first."""
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0.dev0")
