"""pip or uv: the commands that build an environment, with progress and a log."""

import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cluster.environments.recipes import Step
from cluster.environments.record import python_of

OnLine = Callable[[str], None]
"""Receives each line of output at once."""

_TAIL = 20
_LINE = 400
_WAIT_S = 5.0
#: Settings that would install packages outside the environment.
_ASTRAY = (
    *("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"),
    *("PIP_NO_DEPS", "PIP_PYTHON", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX"),
)


class CommandFailed(Exception):
    """A command failed; with its exit code and its last lines of output."""

    def __init__(self, command: Sequence[str], code: int, tail: Sequence[str]) -> None:
        super().__init__(command, code, tail)
        self.command, self.code, self.tail = tuple(command), code, tuple(tail)


class Installer:
    """Builds one environment: with uv if it is on the PATH, else with pip."""

    def __init__(self, folder: Path, log: Path, cmake_args: Sequence[str], on_line: OnLine) -> None:
        self._uv = shutil.which("uv")
        self._folder, self._log, self._on_line = folder, log, on_line
        self._python = str(python_of(folder))
        self._environment = {k: v for k, v in os.environ.items() if k not in _ASTRAY}
        # The user's own flags come last, so that they win.
        flags = [*cmake_args, os.environ.get("CMAKE_ARGS", "")]
        self.cmake_args = " ".join(f for f in flags if f) if cmake_args else ""
        if self.cmake_args:
            self._environment["CMAKE_ARGS"] = self.cmake_args

    def make(self) -> None:
        """Create the environment, with the Python version of this interpreter."""
        if self._uv:
            make = [self._uv, "venv", "--allow-existing", "--no-project"]
            self.run([*make, "--python", sys.executable, str(self._folder)])
        else:
            self.run([sys.executable, "-m", "venv", str(self._folder)])

    def install(
        self, step: Step, requirements: Sequence[str], pins: str | None, *, cached: bool
    ) -> None:
        """Install the requirements of a step, with the versions that a file pins."""
        if self._uv:
            command = [self._uv, "pip", "install", "--python", self._python]
            command += [] if cached else ["--no-cache"]
        else:
            command = [self._python, "-m", "pip", "install", "--no-input", "--progress-bar=off"]
            command += ["--disable-pip-version-check"]
            command += [] if cached else ["--no-cache-dir"]
        command += ["--no-deps"] if step.no_deps else []
        for package in step.from_source:
            command += ["--no-binary", package]
        command += ["--constraint", pins] if pins else []
        self.run([*command, *requirements])

    def name(self) -> str:
        """Return the installer's name and version."""
        ask = [self._uv] if self._uv else [self._python, "-m", "pip"]
        return " ".join(self.run([*ask, "--version"])[-1:]).split(" from ")[0]

    def run(self, command: Sequence[str]) -> list[str]:
        """Run a command to its end and return its last lines of output; long lines are cut.

        Raises:
            CommandFailed: it failed or could not be started.
        """
        tail: deque[str] = deque(maxlen=_TAIL)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    env=self._environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise CommandFailed(command, 127, [str(error)]) from error
            with process, _ended_with_us(process):
                for line in _lines(process.stdout):
                    log.write(f"{line}\n")
                    tail.append(line if len(line) <= _LINE else f"{line[:_LINE]} …")
                    self._on_line(line)
        if process.returncode != 0:
            raise CommandFailed(command, process.returncode, tail)
        return list(tail)


def _lines(stream: IO[str] | None) -> Iterator[str]:
    for line in stream or ():
        if line.strip():
            yield line.rstrip()


@contextmanager
def _ended_with_us(process: "subprocess.Popen[str]") -> Iterator[None]:
    """End a command and its children (compilers) if this process is interrupted."""
    try:
        yield
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(OSError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_WAIT_S)
                break
        raise
