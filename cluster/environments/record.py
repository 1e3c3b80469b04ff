"""The record of an environment: what was installed, written when everything is complete.

There are two small files in the environment's folder. A marker exists while the environment is
built or removed: an environment with a marker is unfinished and is never used. The record replaces
the marker. An environment with neither was made by hand and is used as it is.
"""

import datetime as dt
import os
from importlib.metadata import distributions
from pathlib import Path

from packaging.utils import canonicalize_name
from pydantic import ValidationError

from suites.stages import Backend
from suites.suite import Frozen

_RECORD = "fleetqual-environment.json"
_UNFINISHED = "fleetqual-unfinished"


class Record(Frozen):
    """What was installed, and how."""

    schema_version: int = 1
    engine: str
    version: str
    backend: Backend
    recipe: str
    """Digest of the recipe."""
    packages: dict[str, str]
    """Name → version of every package in the environment."""
    python: str
    """Version of its interpreter."""
    installer: str
    """The program that installed it, with its version."""
    cmake_args: str = ""
    """Flags with which packages were compiled, with the user's own."""
    installed: dt.datetime


def python_of(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_unfinished(folder: Path) -> bool:
    """Whether an environment is being built or removed, or that was interrupted."""
    return (folder / _UNFINISHED).exists()


def begin(folder: Path) -> None:
    """Mark an environment as unfinished; a missing folder is created."""
    folder.mkdir(exist_ok=True)
    (folder / _UNFINISHED).touch()


def finish(folder: Path, record: Record) -> None:
    """Write the record: from now on the environment is used."""
    written = folder / f"{_RECORD}.tmp"
    written.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(written, folder / _RECORD)
    (folder / _UNFINISHED).unlink()


def read_record(folder: Path) -> Record | None:
    """Return an environment's record; None if there is no readable one."""
    try:
        return Record.model_validate_json((folder / _RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def site_packages(folder: Path) -> list[str]:
    """Return the folders with an environment's packages."""
    places = [*folder.glob("lib*/python*/site-packages"), folder / "Lib" / "site-packages"]
    # lib64 is a symbolic link to lib.
    return list(dict.fromkeys(str(p.resolve()) for p in places if p.is_dir()))


def packages_in(folder: Path) -> dict[str, str]:
    """Return name → version of the packages in an environment, without starting it."""
    found = distributions(path=site_packages(folder))
    return dict(sorted((canonicalize_name(d.name), d.version) for d in found if d.name))
