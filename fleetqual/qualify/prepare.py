"""Look at a model, choose what serves it, derive its suite, and write the matrix."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.running.run import absolute_results
from fleetqual.qualify.files import Artifact, MadeFiles, expected_files, matrix_of
from fleetqual.qualify.serving import Say, Served, backend_here, ways_to_serve
from runner.model.artifact import open_artifact, read_json, weights_type
from runner.model.folder import (
    FoundArtifact,
    ModelFolder,
    default_cache,
    find_artifact,
    model_folder,
    model_path,
)
from suites.derive import derive_suite
from suites.suite import Suite

#: A longer context costs memory and time, and few integration faults need one.
_LONGEST_CONTEXT = 2048


@dataclass(frozen=True)
class Asked:
    """What the user asked for."""

    model: str
    """A GGUF file, a folder, ``org/name@rev`` or ``org/repo:QUANT``."""
    variants: tuple[str, ...] = ()
    """More files or folders of the same model; served instead of the model itself."""
    engines: tuple[str, ...] = ()
    backend: str | None = None
    prompts: Path | None = None
    results: str = "results"
    may_download: bool = False
    may_install: bool = True
    fresh: bool = False
    """Whether edited files are replaced."""


@dataclass(frozen=True)
class Prepared:
    """A model with its suite and the ways to serve it; nothing is written yet."""

    asked: Asked
    name: str
    folder: ModelFolder
    artifacts: tuple[Artifact, ...]
    ways: tuple[Served, ...]
    backend: str
    context: int
    suite: Suite

    @property
    def _model(self) -> dict[str, str]:
        if self.folder.gguf is not None:
            return {"gguf": str(self.folder.gguf)}
        return {"hf": str(self.folder.path)}

    @property
    def files(self) -> MadeFiles:
        """Where the matrix and the suite are written: beside the results, for this model."""
        results = absolute_results(self.asked.results)
        root = Path.cwd() / "results" if "://" in results else Path(results)
        return MadeFiles(root / "qualify" / self.name)

    def write(
        self, ways: Sequence[Served], made: MadeFiles, timeout_s: float | None = None
    ) -> Path:
        """Write matrix, suite and declared differences for these ways; return the matrix.

        ``timeout_s`` is the deadline of each engine; by default several times the estimate.

        Raises:
            UserError: a file there was edited, and ``fresh`` was not asked for.
        """
        if not self.asked.fresh:
            made.refuse_edited()
        expected = expected_files([way.engine for way in ways], made.folder)
        matrix = matrix_of(
            self.name,
            self._model,
            self.artifacts,
            ways,
            self.backend,
            self.context,
            self.suite.requires,
            expected,
            timeout_s,
        )
        made.write(matrix, self.suite, expected)
        return made.matrix


def prepare(asked: Asked, say: Say) -> Prepared:
    """Read the model, choose engines and derive the suite; installs what is missing.

    Raises:
        UserError: the model cannot be read, or nothing here can serve it.
    """
    backend = backend_here(asked.backend)
    folder = model_folder(
        _path(asked.model, asked), default_cache(), lambda line: say(f"model    {line}")
    )
    texts = asked.variants or (asked.model,)
    served = [find_artifact(_path(text, asked)) for text in texts]
    artifacts = tuple(_artifacts(served))
    formats = list(dict.fromkeys(a.form for a in artifacts))
    ways = ways_to_serve(formats, asked.engines, backend, may_install=asked.may_install, say=say)
    context = _context(folder.path)
    name = _name(asked.model, folder)
    suite = derive_suite(
        folder.path,
        name=name[:50].lower().replace(".", "_"),
        context_length=context,
        prompts=asked.prompts,
    )
    kinds = ", ".join(f"{a.name} ({a.form})" for a in artifacts)
    say(f"model    {name}: {kinds}")
    for note in dict.fromkeys((*folder.notes, *(n for one in served for n in one.notes))):
        say(f"         {note}")
    stages = dict.fromkeys(case.stage for case in suite.cases)
    say(f"suite    {len(suite.cases)} cases derived from the model's files: {', '.join(stages)}")
    say(f"engines  {', '.join(way.name for way in ways)} on {backend}")
    return Prepared(asked, name, folder, artifacts, tuple(ways), backend, context, suite)


def _path(text: str, asked: Asked) -> Path:
    return Path(os.path.abspath(model_path(text, download=asked.may_download)))


def _artifacts(served: Sequence[FoundArtifact]) -> list[Artifact]:
    found: list[Artifact] = []
    for one in served:
        kind = weights_type(open_artifact(one.path, one.form))
        taken = {a.name for a in found}
        names = (kind.lower(), f"{kind.lower()}-{one.form}", f"{kind.lower()}-{len(found)}")
        name = next(name for name in names if name not in taken)
        found.append(Artifact(name, one.path, one.form, kind))
    return found


def _context(folder: Path) -> int:
    """Return the tokens of context to serve: the model's own, up to a limit."""
    own = read_json(folder / "config.json").get("max_position_embeddings")
    return min(own, _LONGEST_CONTEXT) if type(own) is int and own > 0 else _LONGEST_CONTEXT


def _name(text: str, folder: ModelFolder) -> str:
    """Return the model's name: of its file or folder, or as the hub calls it."""
    path = folder.gguf or folder.path
    given = (
        text if not Path(text).exists() else (path.stem if path.is_file() else path.resolve().name)
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", given).strip("-._") or "model"
