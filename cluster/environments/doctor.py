"""What this machine has and what is missing, each with the command that fixes it."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cluster.environments.interpreter import (
    command_that_adds,
    installed_version,
    interpreter,
    needs_no_environment,
)
from cluster.environments.inventory import USED, Environment, environments
from cluster.environments.recipes import backends_here
from runner.engines.registry import DECLARATIONS
from runner.machine import Machine, this_machine
from suites.suite import Frozen

_LOW_DISK = 2 << 30
_PACKAGES = ("ray", "duckdb", "pyarrow")


class MachineCheck(Frozen):
    """One check of this machine."""

    kind: str
    """hardware, engine, software or disk."""
    name: str
    ok: bool
    value: str
    where: str = ""
    fix: str = ""
    """The command that fixes it; empty if it is ok."""


def check_machine(results: str) -> list[MachineCheck]:
    """Return all checks of this machine before a run."""
    machine = this_machine(visible_only=True)
    there = environments()
    engines = [row for name in DECLARATIONS for row in _engine(name, machine, there)]
    return [*_hardware(machine), *engines, *_software(), _disk(results)]


def _hardware(machine: Machine) -> list[MachineCheck]:
    memory = f"{machine.memory / 2**30:.0f} GiB"
    found = []
    for backend, slug in machine.hardware.items():
        devices = [d for d in machine.devices if d.backend == backend]
        if backend == "cpu":
            where = f"{machine.cpu_count} logical processors, {memory}"
        else:
            where = f"{len(devices)} × {devices[0].name}, driver {machine.driver or 'unknown'}"
        found.append(MachineCheck(kind="hardware", name=backend, ok=True, value=slug, where=where))
    node = MachineCheck(kind="hardware", name="node", ok=True, value=machine.node_id)
    return [node, *found]


def _engine(name: str, machine: Machine, there: list[Environment]) -> list[MachineCheck]:
    """Return a check for each environment of an engine; without one, a check with the command."""
    if needs_no_environment(name):
        return [MachineCheck(kind="engine", name=name, ok=True, value="needs no environment")]
    rows = [_environment(e) for e in there if e.engine == name]
    if any(row.ok for row in rows):
        return rows
    python = interpreter(name)
    found = installed_version(name, python) if python else None
    if python is not None and found is not None:
        return [*rows, MachineCheck(kind="engine", name=name, ok=True, value=found, where=python)]
    if rows:
        return rows
    possible = backends_here(name)
    backend = next((b for b in machine.hardware if b in possible), None)
    fix = command_that_adds(name, backend=backend)
    return [MachineCheck(kind="engine", name=name, ok=False, value="not installed", fix=fix)]


def _environment(found: Environment) -> MachineCheck:
    """Return the check of one environment; one from an older recipe is ok."""
    used = found.state in USED
    parts = [found.version or "unknown version", found.backend, ", ".join(found.serving)]
    parts += [] if found.state == "ready" else [found.state]
    return MachineCheck(
        kind="engine",
        name=found.engine,
        ok=used,
        value=" · ".join(part for part in parts if part),
        where=found.python,
        fix="" if used else f"{command_that_adds(found.engine, found.version)} --replace",
    )


def _software() -> list[MachineCheck]:
    own = platform.python_version()
    found = [MachineCheck(kind="software", name="python", ok=True, value=own, where=sys.executable)]
    for package in _PACKAGES:
        try:
            value, ok = version(package), True
        except PackageNotFoundError:
            value, ok = "missing", False
        fix = "" if ok else f"{sys.executable} -m pip install {package}"
        found.append(MachineCheck(kind="software", name=package, ok=ok, value=value, fix=fix))
    return found


def _disk(results: str) -> MachineCheck:
    if "://" in results:
        return MachineCheck(
            kind="disk", name="results", ok=True, value="object store", where=results
        )
    folder = Path(results).absolute()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    return MachineCheck(
        kind="disk",
        name="results",
        ok=free >= _LOW_DISK,
        value=f"{free / 2**30:.1f} GiB free",
        where=str(folder),
        fix="" if free >= _LOW_DISK else "give --results a folder with more free space",
    )
