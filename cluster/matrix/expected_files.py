"""Expected failures in files of their own, so that matrices can share them."""

from collections.abc import Collection
from pathlib import Path

from pydantic import Field

from cluster.matrix.expected_entry import Expected, fits_any
from cluster.matrix.schema import Matrix
from suites.loading import load_document
from suites.suite import Case, Frozen


class ExpectedFile(Frozen):
    """A file of expected failures, usually of one engine."""

    expected: tuple[Expected, ...] = Field(min_length=1)


def with_shared(matrix: Matrix, base: Path, cases: list[Case]) -> Matrix:
    """Return the matrix with the entries of ``expected_from`` that its suites and engines can show.

    A shared file covers more suites and engines than one matrix runs, so cases, tags and engines
    that the matrix does not have are left out. An entry of the matrix itself must match.

    Raises:
        UserError: a file is missing or wrong; the message names its line.
    """
    shared: list[Expected] = []
    engines = {name for e in matrix.engines for name in (e.label, e.engine)}
    for name in matrix.expected_from:
        file, _ = load_document(base / name, ExpectedFile)
        for entry in file.expected:
            if entry.engine in engines and (present := _present(entry, cases)):
                shared.append(present)
    return matrix.model_copy(update={"expected": (*matrix.expected, *shared)})


def _present(entry: Expected, cases: list[Case]) -> Expected | None:
    """Return the entry reduced to these cases; None if they cannot show it.

    All keys of an entry must hold. So where nothing of a key is left, the entry is dropped: without
    that key it would excuse more than it was written for.
    """
    own = [case for case in cases if case.stage == entry.stage]
    ids, tags = {case.id for case in own}, {tag for case in own for tag in case.tags}
    given: dict[str, Collection[str]] = {"tags": tuple(t for t in entry.tags if t in tags)}
    given["cases"] = tuple(c for c in entry.cases if fits_any(c, ids))
    if isinstance(entry.signature, dict):
        given["signature"] = {c: s for c, s in entry.signature.items() if fits_any(c, ids)}
    if any(getattr(entry, key) and not left for key, left in given.items()):
        return None
    return entry.model_copy(update=given)
