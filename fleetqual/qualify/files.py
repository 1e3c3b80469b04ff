"""The files that ``qualify`` and ``init`` write: a matrix, its suite, and declared differences.

They are the user's from then on: a file that he edited is never overwritten without being asked.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fleetqual.qualify.serving import Served
from runner.engines.registry import DECLARATIONS, REFERENCE_ENGINE, shown_as
from suites.errors import UserError
from suites.suite import Suite
from suites.writing import write_suite

MATRIX, SUITE = "matrix.yaml", "suite.yaml"
_MADE = ".made.json"
#: Known differences of engines; in a source tree they lie beside the rooms.
_EXPECTED = Path(__file__).resolve().parents[2] / "infra" / "expected"
#: Largest mean KL (nats) of the deployed pass that counts as equal, by weights type. The reference
#: computes at fp32 over the variant's own dequantised weights, so this is what kernels may lose.
_MARGINS = {"f32": 1e-4, "f16": 1e-4, "bf16": 2e-3, "q8_0": 0.01}
_QUANTISED_MARGIN = 0.03

#: How a stage must be observed to qualify it.
_QUALIFYING = ("path", "endpoint")

_HEADER = """\
# Made by `fleetqual qualify` for this model. Edit it, and run
#     fleetqual run {matrix}
# `docs/your-model.md` explains each key.
"""


@dataclass(frozen=True)
class Artifact:
    """A file or folder that is served, as a variant of the model."""

    name: str
    path: Path
    form: str
    """gguf or hf."""
    weights_type: str

    @property
    def entry(self) -> dict[str, Any]:
        """The variant's entry in the matrix."""
        margin = _MARGINS.get(self.weights_type.lower(), _QUANTISED_MARGIN)
        return {"name": self.name, self.form: str(self.path), "margin": margin}


def matrix_of(
    name: str,
    model: Mapping[str, str],
    artifacts: Sequence[Artifact],
    ways: Sequence[Served],
    backend: str,
    context: int,
    required: Sequence[str],
    expected: Sequence[str],
    timeout_s: float | None = None,
) -> dict[str, Any]:
    """Return the matrix that serves every artifact in every way, as it is written."""
    return {
        "name": name,
        "suites": [f"./{SUITE}"],
        "models": [{"name": name, **model, "variants": [a.entry for a in artifacts]}],
        "engines": [_entry(way, context, required) for way in ways],
        "backends": [backend],
        "coverage": "any",
        "reference": {
            "engine": REFERENCE_ENGINE,
            "backend": backend if backend == "cuda" else "cpu",
        },
        **({"expected_from": [f"./{file}" for file in expected]} if expected else {}),
        **({"timeout_s": round(timeout_s)} if timeout_s else {}),
    }


def _reference_backend(backend: str) -> str:
    """Return where the reference is computed: beside the model where that engine can."""
    return backend if backend in DECLARATIONS[REFERENCE_ENGINE].backends else "cpu"


def _entry(way: Served, context: int, required: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"engine": way.engine, "name": way.name}
    if way.serving != "in_process":
        # A server computes as it is served; the fp32 comparison of the same build is in process.
        # What it hides cannot be required of it, and the verdict's scope says so.
        shown = shown_as(way.engine, way.serving)
        seen = {s for s, how in (shown.stages if shown else {}).items() if how in _QUALIFYING}
        entry |= {"serving": way.serving, "passes": ["deployed"]}
        entry["require"] = [stage for stage in required if stage in seen] or ["chain"]
    if way.engine == "llama_cpp":
        entry["options"] = {"n_ctx": context}
    return entry


def expected_files(engines: Sequence[str], folder: Path) -> list[str]:
    """Copy the known differences of these engines into ``folder``; return the files' names."""
    found = []
    for engine in dict.fromkeys(engines):
        source = _EXPECTED / f"{engine}.yaml"
        if source.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / f"expected-{engine}.yaml")
            found.append(f"expected-{engine}.yaml")
    return found


class MadeFiles:
    """The folder of made files, which knows what was edited since."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.matrix = folder / MATRIX

    def refuse_edited(self) -> None:
        """Refuse to replace a file that was edited.

        Raises:
            UserError: names the file, and the command that runs it as it is.
        """
        for name, digest in self._recorded().items():
            path = self.folder / name
            if path.is_file() and _digest(path) != digest:
                raise UserError(
                    f"{name} was edited, and would be replaced",
                    where=str(self.folder),
                    fix=f"run it as it is with `fleetqual run {self.matrix}`, or add --fresh to "
                    "replace it",
                )

    def write(self, matrix: Mapping[str, Any], suite: Suite, more: Sequence[str]) -> None:
        """Write matrix and suite, and remember them and the files in ``more`` as made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_suite(suite, self.folder / SUITE)
        body = yaml.safe_dump(dict(matrix), sort_keys=False, allow_unicode=True, width=100)
        text = _HEADER.format(matrix=self.matrix) + body
        self.matrix.write_text(text, encoding="utf-8")
        digests = {name: _digest(self.folder / name) for name in (MATRIX, SUITE, *more)}
        (self.folder / _MADE).write_text(json.dumps(digests, indent=1), encoding="utf-8")

    def _recorded(self) -> dict[str, str]:
        try:
            found = json.loads((self.folder / _MADE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
