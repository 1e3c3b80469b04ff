"""Build one environment by its recipe: create it, install packages, prove it, write its record."""

import datetime as dt
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rich.console import Console

from cluster.environments.installer import CommandFailed, Installer, OnLine
from cluster.environments.recipes import Recipe, Step
from cluster.environments.record import (
    Record,
    begin,
    finish,
    packages_in,
    python_of,
    site_packages,
)

#: Lines in which pip and uv say that no index has a package; the group is the package.
_LACKING = re.compile(
    r"No matching distribution found for (?P<pip>.+?)(?: \(from .*)?$"
    r"|there (?:is|are) no versions? of (?P<uv>\S+)"
    r"|(?P<none>\S+) was not found in the package registry"
)
_LOCAL = re.compile(r"(==[^,;+]+)\+[A-Za-z0-9.]+")


class NotInstalled(Exception):
    """An engine was not installed: the message says why. Nothing of it is left."""


def build(wanted: Recipe, folder: Path) -> Record:
    """Create the environment of a recipe in a folder and return its record.

    Raises:
        NotInstalled: the installer failed, or the installed engine does not work.
    """
    log = folder.with_name(f"{folder.name}.log")
    log.unlink(missing_ok=True)
    with _progress(f"{wanted.engine} {wanted.version} for {wanted.backend}") as on_line:
        begin(folder)
        try:
            record = _follow_recipe(wanted, folder, log, on_line)
        except CommandFailed as stopped:
            raise NotInstalled(_failure(wanted, stopped, log)) from stopped
        except BaseException:
            log.unlink(missing_ok=True)
            raise
    finish(folder, record)
    log.unlink()
    return record


def _follow_recipe(wanted: Recipe, folder: Path, log: Path, on_line: OnLine) -> Record:
    """Follow a recipe, prove the result, and return the record to write."""
    work = Installer(folder, log, wanted.cmake_args, on_line)
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
    """Return the requirements that a step installs.

    The suffix of a local version (``torch==2.13.0+cpu``) is removed: it names the build of one
    index, and another index has the same version without it.
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
    """Check that the environment works.

    Raises:
        CommandFailed: it does not work.
    """
    if wanted.holds:
        places = map(Path, site_packages(folder))
        if not any(True for place in places for _ in place.glob(wanted.holds)):
            raise CommandFailed(["ls", wanted.holds], 1, [f"{wanted.holds} was not built"])
        return
    work.run([str(python_of(folder)), "-I", "-c", wanted.proof])


@contextmanager
def _progress(title: str) -> Iterator[OnLine]:
    """Show a spinner with the last line of output; without a terminal, print only the title."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        print(f"installing {title} …", file=sys.stderr, flush=True)
        yield lambda line: None
        return
    with console.status(f"installing {title}") as status:

        def on_line(line: str) -> None:
            room = max(console.width - len(title) - 20, 10)
            status.update(f"installing {title}: {line.strip()[:room]}".replace("[", r"\["))

        yield on_line


def _failure(wanted: Recipe, stopped: CommandFailed, log: Path) -> str:
    """Return the message: what failed, why if known, the command and its last lines."""
    what = f"{wanted.engine} {wanted.version} for {wanted.backend} was not installed"
    lacking = next((found for line in stopped.tail if (found := _LACKING.search(line))), None)
    if lacking is not None:
        name = next(group for group in lacking.groups() if group)
        system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
        what += f": no package index has {name} for {system}"
    lines = [what, f"  command: {shlex.join(stopped.command)} (exit code {stopped.code})"]
    lines += [f"    {line}" for line in stopped.tail]
    lines += [f"  fix: {wanted.hint}"] if wanted.hint else []
    return "\n".join([*lines, f"  log: {log}"])
