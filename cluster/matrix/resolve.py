"""The matrix with everything that it names: suites are read, artifacts are found and digested."""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cluster.matrix.engine_entry import EngineEntry
from cluster.matrix.expected_files import with_shared
from cluster.matrix.located import check_exists, located
from cluster.matrix.resolved_models import ResolvedModel, resolved_models
from cluster.matrix.schema import Matrix, load_matrix
from runner.engines.engine import Engine
from runner.engines.registry import DECLARATIONS
from runner.model.artifact import model_digests
from runner.order import Model
from suites.errors import UserError
from suites.loading import SHIPPED, load_suite
from suites.mistakes import KeyPath, Mistake
from suites.model_files import is_texts_digest, texts_digest
from suites.stages import CASELESS
from suites.suite import Suite
from suites.yaml_document import Document

#: Default deadline: this many times the estimate, but at least this many seconds.
_PATIENCE, _LEAST_TIMEOUT_S = 8.0, 180.0


@dataclass(frozen=True)
class GoldenTruth:
    """The model for which a suite's golden answers were written."""

    weights_digest: str | None
    """None if this machine does not have the model, or the suite names texts."""
    texts_digest: str | None = None
    """Texts that a model must have instead: its templates, tokenizer and EOS set (``x1:…``)."""
    written_for: str = ""
    """What people call that model."""

    def applies(self, model: Model) -> bool:
        """Whether the golden answers hold for ``model``: its weights, or its texts, are the same.

        Names are not compared: a fine-tune may have the same name but its own template.
        """
        if self.texts_digest is not None:
            return self.texts_digest == _texts_digest(model.hf)
        return self.weights_digest is not None and self.weights_digest == model.weights_digest

    def weights_of(self, models: Iterable[Model]) -> str | None:
        """Return the weights of all ``models`` for which the answers hold, as they are stored."""
        if self.texts_digest is None:
            return self.weights_digest
        return " ".join(m.weights_digest for m in models if self.applies(m)) or None


@dataclass(frozen=True)
class ResolvedSuite:
    """A suite and its name in the matrix."""

    name: str
    suite: Suite
    golden: GoldenTruth | None


@dataclass(frozen=True)
class Resolved:
    """A matrix with everything that the planner needs; files are not read again."""

    path: Path
    matrix: Matrix
    suites: tuple[ResolvedSuite, ...]
    models: tuple[ResolvedModel, ...]

    def python(self, entry: EngineEntry) -> str | None:
        """Return the absolute path of the interpreter that an entry names; None if it names none.

        Symbolic links are kept: a virtual environment is found by the path of its link."""
        if entry.python is None:
            return None
        # Unlike Path.expanduser, this does not raise for a user who is unknown here.
        return os.path.abspath(self.path.parent / os.path.expanduser(entry.python))

    def engine(self, entry: EngineEntry) -> Engine:
        """Return an entry as it travels to the adapter; a node still finds its interpreter if the
        entry names none."""
        return Engine(
            name=entry.label,
            engine=entry.engine,
            version=entry.version,
            python=self.python(entry) or "",
            serving=entry.served,
            base_url=entry.base_url,
            api_key_env=entry.api_key_env,
            dialect=entry.dialect,
            options=entry.options,
            fault=None if entry.fault is None else entry.fault.model_dump(mode="json"),
            proxy=None if entry.proxy is None else entry.proxy.model_dump(mode="json"),
        )

    @property
    def named_interpreters(self) -> tuple[tuple[str, str], ...]:
        """Each engine for which the matrix names an interpreter, with that interpreter."""
        named = ((e.engine, self.python(e)) for e in self.matrix.engines)
        return tuple(dict.fromkeys((engine, python) for engine, python in named if python))

    def timeout_s(self, entry: EngineEntry, estimate_s: float) -> float:
        """Return the deadline in seconds of a child with an estimate of ``estimate_s`` seconds.

        ``FLEETQUAL_TIMEOUT_S`` wins, then the entry, then the matrix. The default ends a child that
        hangs and still leaves enough time on a slow or busy machine.
        """
        given = os.environ.get("FLEETQUAL_TIMEOUT_S")
        if given is None:
            declared = entry.timeout_s or self.matrix.timeout_s
            least = max(_LEAST_TIMEOUT_S, DECLARATIONS[entry.engine].slow_start_s)
            return declared or max(least, _PATIENCE * estimate_s)
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise UserError(
                f"{given!r} is not a number of seconds above 0",
                where="FLEETQUAL_TIMEOUT_S",
                fix="set it to a number such as 600, or unset it",
            )
        return seconds


def resolve(path: Path) -> Resolved:
    """Read a matrix and everything that it names.

    Raises:
        UserError: a file is missing or wrong; the message names the matrix's line.
    """
    matrix, document = load_matrix(path)
    base = path.parent
    suites = tuple(
        _resolved_suite(name, located(document, ("suites", i), load_suite, name, base))
        for i, name in enumerate(matrix.suites)
    )
    _suite_names_are_unique(document, suites)
    _expected_cases_exist(matrix, document, suites)
    for index, name in enumerate(matrix.expected_from):
        check_exists(document, ("expected_from", index), base / name, folder=False)
    matrix = with_shared(matrix, base, [c for s in suites for c in s.suite.cases])
    return Resolved(path, matrix, suites, resolved_models(matrix, document, base))


@cache
def _texts_digest(hf: Path) -> str | None:
    """Return the digest of a model's texts; None where its files have none that can be read."""
    try:
        return texts_digest(hf)
    except UserError:
        return None


def _resolved_suite(name: str, suite: Suite) -> ResolvedSuite:
    truth = None if suite.golden_for is None else golden_truth(suite.golden_for)
    return ResolvedSuite(name, suite, truth)


def golden_truth(written_for: str) -> GoldenTruth:
    """Return the model for which answers were written: a folder in ``suites/``, or texts."""
    if is_texts_digest(written_for):
        return GoldenTruth(None, written_for, f"a model with other texts ({written_for})")
    folder = SHIPPED / written_for
    weights = model_digests(folder)[0] if folder.is_dir() else None
    return GoldenTruth(weights, written_for=folder.name)


def _suite_names_are_unique(document: Document, suites: tuple[ResolvedSuite, ...]) -> None:
    names = [s.suite.name for s in suites]
    for index, name in enumerate(names):
        if name in names[:index]:
            what = f"two suite files have the name {name!r}"
            key: KeyPath = ("suites", index)
            raise document.error(Mistake(key, what, fix="change the `name:` in one of them"))


def _expected_cases_exist(
    matrix: Matrix, document: Document, suites: tuple[ResolvedSuite, ...]
) -> None:
    """Refuse an expected failure of a case or tag that no suite has: it could never occur."""
    for index, entry in enumerate(matrix.expected):
        if entry.stage in CASELESS:
            continue
        cases = [c for s in suites for c in s.suite.cases if c.stage == entry.stage]
        known = {
            "cases": [c.id for c in cases],
            "tags": sorted({tag for c in cases for tag in c.tags}),
        }
        for key, names in known.items():
            for position, given in enumerate(getattr(entry, key)):
                if given not in names:
                    kind = f"{entry.stage} {key.removesuffix('s')}"
                    at: KeyPath = ("expected", index, key, position)
                    raise document.error(Mistake.unknown(at, kind, given, names))
