"""Which engines serve a model on this machine, and what must be installed for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.environments.install import install
from cluster.environments.interpreter import command_that_adds, interpreter
from cluster.environments.inventory import USED, environments
from cluster.environments.recipes import known_version
from runner.engines.registry import DECLARATIONS, REFERENCE_ENGINE
from runner.machine import this_machine
from suites.errors import UserError
from suites.loading import unknown_name
from suites.stages import Serving

#: Receives one line of text for the user.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Served:
    """One way to serve the model here."""

    engine: str
    serving: Serving

    @property
    def name(self) -> str:
        """The entry's name in the matrix."""
        return self.engine if self.serving == "in_process" else f"{self.engine}-server"


def ways_to_serve(
    formats: Sequence[str], asked: Sequence[str], backend: str, *, may_install: bool, say: Say
) -> list[Served]:
    """Return how the model is served here: each installed engine that reads one of its formats.

    Args:
        formats: formats of the artifacts: gguf, hf.
        asked: engines that the user names; all that are installed where empty.
        backend: the backend that computes.
        may_install: whether a missing engine is installed.
        say: receives what is installed.

    Raises:
        UserError: no engine here reads a format, or one that is needed is not installed.
    """
    for name in asked:
        if name not in DECLARATIONS:
            raise unknown_name("engine", name, list(DECLARATIONS))
    able = [name for name, own in DECLARATIONS.items() if _reads(name, formats, backend)]
    refused = [name for name in asked if name not in able]
    if refused:
        raise UserError(
            f"{refused[0]} does not read {' or '.join(formats)} files on {backend}",
            where="--engine",
            known=", ".join(able),
            fix="name another engine, or give the model in a format that it reads",
        )
    wanted = list(asked) or [name for name in able if interpreter(name)]
    for form in formats:
        if not any(form in DECLARATIONS[name].formats for name in wanted):
            wanted.append(next(n for n in able if form in DECLARATIONS[n].formats))
    for name in dict.fromkeys((*wanted, REFERENCE_ENGINE)):
        if interpreter(name) is None:
            _install(name, backend, may_install=may_install, say=say)
    return [way for name in wanted for way in _ways(name)]


def _reads(engine: str, formats: Sequence[str], backend: str) -> bool:
    own = DECLARATIONS[engine]
    fits = set(own.formats) & set(formats) and backend in own.backends
    return bool(fits) and "in_process" in own.servings


def _install(engine: str, backend: str, *, may_install: bool, say: Say) -> None:
    version = known_version(engine)
    command = command_that_adds(engine)
    if not may_install or version is None:
        use = "computes the reference" if engine == REFERENCE_ENGINE else "serves the model"
        raise UserError(f"{engine} is not installed; it {use}", fix=command)
    say(f"installing {engine} {version} in an environment of its own ({command}) …")
    say(install(f"{engine}=={version}", backend))


def _ways(engine: str) -> list[Served]:
    """Return the servings that the engine's newest environment has."""
    ways = [Served(engine, "in_process")]
    python = interpreter(engine)
    here = [e for e in environments() if e.python == python and e.state in USED]
    if here and "managed" in here[-1].serving:
        ways.append(Served(engine, "managed"))
    return ways


def backend_here(asked: str | None) -> str:
    """Return the backend to use: the asked one, else this machine's first, accelerators first.

    Raises:
        UserError: this machine does not have the asked one.
    """
    machine = this_machine(visible_only=True)
    if asked is None:
        return next(iter(machine.hardware))
    if asked not in machine.hardware:
        raise UserError(
            f"this machine has no {asked}", where="--backend", known=", ".join(machine.hardware)
        )
    return asked
