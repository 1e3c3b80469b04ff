"""``fleetqual engine install``: one environment by its recipe, whole or not at all."""

import datetime as dt
import platform
import re
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distributions
from pathlib import Path
from types import FrameType

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rich.console import Console

from cluster.environments.installer import Installer, Stopped, Tell
from cluster.environments.interpreter import (
    environment_folders,
    environments_root,
    same_version,
    version_in_name,
)
from cluster.environments.inventory import Environment, alone_in, environment_in
from cluster.environments.recipes import Recipe, Step, backends_here, parse_spec, recipe
from cluster.environments.record import (
    Record,
    begin,
    finish,
    is_unfinished,
    packages_in,
    python_of,
    read_record,
    site_packages,
)
from runner.machine import this_machine
from suites.errors import UserError

#: How pip and uv say that no index has a package; the package is what is asked for.
_LACKING = re.compile(
    r"No matching distribution found for (?P<pip>.+?)(?: \(from .*)?$"
    r"|there (?:is|are) no versions? of (?P<uv>\S+)"
    r"|(?P<none>\S+) was not found in the package registry"
)
_LOCAL = re.compile(r"(==[^,;+]+)\+[A-Za-z0-9.]+")


class NotInstalled(Exception):
    """What could not be installed and why; nothing of it is left."""


def install(asked: str, backend: str | None = None, *, replace: bool = False) -> str:
    """Install an engine in an environment of its own and return what was done, in a sentence.

    Args:
        asked: ``ENGINE==VERSION``.
        backend: what it shall compute on; what this machine has if left out, accelerators first.
        replace: make an environment of this version anew if it was made otherwise.

    Raises:
        UserError: it cannot be had, or the one that is there was made otherwise.
        NotInstalled: the installer failed, or what it installed does not do.
    """
    engine, version = parse_spec(asked)
    wanted = recipe(engine, version, backend or _backend_of_this_machine(engine))
    root = _made(environments_root())
    with alone_in(root):
        folder = _folder(engine, version, root)
        _settle(folder)
        if folder.exists():
            there = environment_in(engine, folder)
            if _same(there, folder, wanted):
                return f"{engine} {there.version} for {wanted.backend} is there: {folder}"
            if not replace:
                return _kept_or_refused(there, wanted)
        with _in_place_of(folder), _ended_by_signal():
            record = _build(wanted, folder)
    held = f"{len(record.packages)} packages with {record.installer}"
    return f"installed {engine} {record.version} for {wanted.backend} in {folder} ({held})"


def _backend_of_this_machine(engine: str) -> str:
    """Return the first backend of this machine that the engine has, accelerators first."""
    possible = backends_here(engine)
    here = this_machine(visible_only=True).hardware
    found = next((b for b in here if b in possible), None)
    if found is None:
        raise UserError(
            f"{engine} computes on nothing that this machine has",
            where=", ".join(here),
            known=", ".join(possible) or "no backend on this system",
            fix="say --backend if the environment is meant for another machine",
        )
    return found


def _made(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"environments cannot be made there: {error.strerror or error}",
            where=str(root),
            fix="name a folder of your own in FLEETQUAL_ENVIRONMENTS",
        ) from error
    return root


def _folder(engine: str, version: str, root: Path) -> Path:
    """Return where this version is, also if written otherwise (0.32 for 0.32.0), or shall be."""
    same = (
        f for f in environment_folders(engine) if same_version(version_in_name(engine, f), version)
    )
    return next(same, root / f"{engine}-{version}")


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _settle(folder: Path) -> None:
    """Clear away what a broken-off installation left; what it meant to replace comes back."""
    if is_unfinished(folder):
        shutil.rmtree(folder)
    if not _aside(folder).exists():
        return
    if read_record(folder) is not None:
        shutil.rmtree(_aside(folder))
    else:
        shutil.rmtree(folder, ignore_errors=True)
        _aside(folder).rename(folder)


def _same(there: Environment, folder: Path, wanted: Recipe) -> bool:
    record = read_record(folder)
    return there.state == "ready" and record is not None and record.recipe == wanted.digest


def _kept_or_refused(there: Environment, wanted: Recipe) -> str:
    """Return what to say of an environment that an older recipe made; refuse any other.

    Raises:
        UserError: it is for another backend, of unknown origin, or broken.
    """
    again = "--replace makes it anew"
    if there.state == "older recipe" and there.backend == wanted.backend:
        return f"{there.engine} {there.version} is there, made by an older recipe ({again})"
    if there.state == "broken":
        what = "its interpreter is gone"
    elif there.backend is None:
        what = "made by hand, so nobody knows for which backend; it is used as it is"
    else:
        what = f"made for {there.backend}, and a machine has one environment for a version"
    raise UserError(
        f"{there.engine} {there.version} is there already: {what}", where=there.where, fix=again
    )


@contextmanager
def _in_place_of(folder: Path) -> Iterator[None]:
    """Keep what is there until its successor is whole; put it back if that fails.

    It is moved away and not built beside, because environments cannot be moved once they are used,
    only back to where they were made.
    """
    if folder.exists():
        folder.rename(_aside(folder))
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if _aside(folder).exists():
            _aside(folder).rename(folder)
        raise
    shutil.rmtree(_aside(folder), ignore_errors=True)


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Let SIGTERM end an installation like Ctrl-C does: cleared away."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _build(wanted: Recipe, folder: Path) -> Record:
    log = folder.with_name(f"{folder.name}.log")
    log.unlink(missing_ok=True)
    with _progress(f"{wanted.engine} {wanted.version} for {wanted.backend}") as tell:
        begin(folder)
        try:
            record = _carry_out(wanted, folder, log, tell)
        except Stopped as stopped:
            raise NotInstalled(_failure(wanted, stopped, log)) from stopped
        except BaseException:
            log.unlink(missing_ok=True)
            raise
    finish(folder, record)
    log.unlink()
    return record


def _carry_out(wanted: Recipe, folder: Path, log: Path, tell: Tell) -> Record:
    """Do what a recipe says, prove it, and return the record to be written."""
    work = Installer(folder, log, wanted.cmake_args, tell)
    work.make()
    for step in wanted.steps:
        requirements = _requirements(step, folder)
        work.install(step, requirements, wanted.pins_file, cached=not wanted.own_build)
    _prove(wanted, folder, work)
    return Record(
        engine=wanted.engine,
        version=wanted.version,
        backend=wanted.backend,
        recipe=wanted.digest,
        packages=packages_in(folder),
        python=platform.python_version(),
        installer=work.name(),
        cmake_args=work.cmake_args,
        installed=dt.datetime.now(dt.UTC),
    )


def _requirements(step: Step, folder: Path) -> list[str]:
    """Return what a step installs.

    A local version (``torch==2.13.0+cpu``) is asked for without it: it names one index's build, and
    another index has the same version without the suffix.
    """
    if step.requirements_of is None:
        return list(step.install)
    found = distributions(name=step.requirements_of, path=site_packages(folder))
    package = next(iter(found), None)
    if package is None:
        raise PackageNotFoundError(step.requirements_of)
    without = {canonicalize_name(name) for name in step.without}
    required = []
    for requirement in map(Requirement, package.requires or ()):
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and canonicalize_name(requirement.name) not in without:
            requirement.marker = None
            requirement.specifier = SpecifierSet(_LOCAL.sub(r"\1", str(requirement.specifier)))
            required.append(str(requirement))
    return [*step.install, *required]


def _prove(wanted: Recipe, folder: Path, work: Installer) -> None:
    """See to it that the environment does what it is for.

    Raises:
        Stopped: it does not.
    """
    if wanted.holds:
        places = map(Path, site_packages(folder))
        if not any(True for place in places for _ in place.glob(wanted.holds)):
            raise Stopped(["ls", wanted.holds], 1, [f"{wanted.holds} was not built"])
        return
    work.run([str(python_of(folder)), "-I", "-c", wanted.proof])


@contextmanager
def _progress(title: str) -> Iterator[Tell]:
    """Show the last line of output beside a spinner; without a terminal only say what is done."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        print(f"installing {title} …", file=sys.stderr, flush=True)
        yield lambda line: None
        return
    with console.status(f"installing {title}") as status:

        def tell(line: str) -> None:
            room = max(console.width - len(title) - 20, 10)
            status.update(f"installing {title}: {line.strip()[:room]}".replace("[", r"\["))

        yield tell


def _failure(wanted: Recipe, stopped: Stopped, log: Path) -> str:
    """Return the whole message: what, why in plain words if known, the command and its end."""
    what = f"{wanted.engine} {wanted.version} for {wanted.backend} was not installed"
    lacking = next((found for line in stopped.tail if (found := _LACKING.search(line))), None)
    if lacking is not None:
        name = next(group for group in lacking.groups() if group)
        system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
        what += f": no package index that was reached has {name} for {system}"
    lines = [what, f"  command: {shlex.join(stopped.command)} (exit code {stopped.code})"]
    lines += [f"    {line}" for line in stopped.tail]
    lines += [f"  fix: {wanted.hint}"] if wanted.hint else []
    return "\n".join([*lines, f"  log: {log}"])
