"""What this machine has and lacks: one row for each fact, with the command that mends it."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cluster.environments import command_that_adds, installed_version, interpreter
from cluster.matrix import EngineKind
from runner.child.adapters import DECLARATIONS
from runner.machine import this_machine
from suites.suite import Frozen

_LOW_DISK = 2 << 30
_PACKAGES = ("ray", "duckdb", "pyarrow")
_ENGINES: tuple[EngineKind, ...] = ("llama_cpp", "transformers", "vllm", "mlx", "openai")


class Finding(Frozen):
    """One fact about this machine."""

    kind: str
    """hardware, engine, software or disk."""
    name: str
    ok: bool
    value: str
    where: str = ""
    fix: str = ""
    """What to type when it is not ok."""


def examine(results: str) -> list[Finding]:
    """Return everything a user may have to mend before a run on this machine."""
    return [*_hardware(), *(_engine(name) for name in _ENGINES), *_software(), _disk(results)]


def _hardware() -> list[Finding]:
    machine = this_machine(visible_only=True)
    memory = f"{machine.memory / 2**30:.0f} GiB"
    found = []
    for backend, slug in machine.hardware.items():
        devices = [d for d in machine.devices if d.backend == backend]
        if backend == "cpu":
            where = f"{machine.cpu_count} logical processors, {memory}"
        else:
            where = f"{len(devices)} × {devices[0].name}, driver {machine.driver or 'unknown'}"
        found.append(Finding(kind="hardware", name=backend, ok=True, value=slug, where=where))
    node = Finding(kind="hardware", name="node", ok=True, value=machine.node_id)
    return [node, *found]


def _engine(name: EngineKind) -> Finding:
    if name not in DECLARATIONS:
        return Finding(kind="engine", name=name, ok=False, value="fleetqual has no adapter yet")
    python = interpreter(name)
    found = installed_version(name, python) if python else None
    if python is None or found is None:
        return Finding(
            kind="engine",
            name=name,
            ok=False,
            value="not installed",
            where=python or "",
            fix=command_that_adds(name),
        )
    return Finding(kind="engine", name=name, ok=True, value=found, where=python)


def _software() -> list[Finding]:
    own = platform.python_version()
    found = [Finding(kind="software", name="python", ok=True, value=own, where=sys.executable)]
    for package in _PACKAGES:
        try:
            value, ok = version(package), True
        except PackageNotFoundError:
            value, ok = "missing", False
        fix = "" if ok else f"{sys.executable} -m pip install {package}"
        found.append(Finding(kind="software", name=package, ok=ok, value=value, fix=fix))
    return found


def _disk(results: str) -> Finding:
    if "://" in results:
        return Finding(kind="disk", name="results", ok=True, value="object store", where=results)
    folder = Path(results).absolute()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        kind="disk",
        name="results",
        ok=free >= _LOW_DISK,
        value=f"{free / 2**30:.1f} GiB free",
        where=str(folder),
        fix="" if free >= _LOW_DISK else "give --results a place with more room",
    )
