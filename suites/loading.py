"""YAML files into frozen models; a mistake is one message with its line and its fix."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from suites.errors import UserError
from suites.mistakes import KeyPath, Mistake, first_mistake
from suites.suite import Suite
from suites.taken_cases import with_taken
from suites.yaml_document import Document

ModelT = TypeVar("ModelT", bound=BaseModel)

#: Folder of the shipped suites.
SHIPPED = Path(__file__).resolve().parent


def load_document(path: Path, model_type: type[ModelT]) -> tuple[ModelT, Document]:
    """Read ``path`` as a ``model_type`` and keep the lines of its keys.

    Raises:
        UserError: the file cannot be read, is not YAML, or is not a ``model_type``.
    """
    document = Document(path)
    if not isinstance(document.value, dict):
        raise UserError(
            f"not a {model_type.__name__.lower()}: the file's top level is not a mapping",
            where=str(path),
            known=", ".join(model_type.model_fields),
            fix="write `key: value` pairs at the top level",
        )
    try:
        return model_type.model_validate(document.value), document
    except ValidationError as error:
        found = first_mistake(error, model_type, document.present, document.line)
        raise document.error(found) from error


def load_yaml(path: Path, model_type: type[ModelT]) -> ModelT:
    """Read ``path`` as a ``model_type``; errors as in :func:`load_document`."""
    return load_document(path, model_type)[0]


def load_suite(name_or_path: str, base: Path) -> Suite:
    """Load a shipped suite by its name, or a suite by its path relative to ``base``.

    The cases that it takes from other suites are included, before its own.

    Raises:
        UserError: there is no such suite, its file is wrong, or it takes cases that it cannot take.
    """
    return _complete_suite(suite_path(name_or_path, base), ())


def _complete_suite(path: Path, takers: tuple[Path, ...]) -> Suite:
    """Load the suite at ``path``; ``takers`` are the suites that take from it, outermost first."""
    suite, document = load_document(path, Suite)
    around = (*takers, path.resolve())
    taken = []
    for index, entry in enumerate(suite.take):
        key: KeyPath = ("take", index, "suite")
        try:
            source = suite_path(entry.suite, path.parent)
        except UserError as error:
            where = document.where(key)
            raise UserError(error.what, where=where, known=error.known, fix=error.fix) from error
        if source.resolve() in around:
            what = f"the suite {entry.suite!r} would take cases from itself"
            raise document.error(Mistake(key, what, fix="remove the entry"))
        taken.append(_complete_suite(source, around))
    return with_taken(suite, taken, lambda mistake: document.error(mistake))


def suite_path(name_or_path: str, base: Path) -> Path:
    """Return the file of a suite; see :func:`load_suite`."""
    shipped = SHIPPED / f"{name_or_path}.yaml"
    if "/" not in name_or_path and not name_or_path.endswith((".yaml", ".yml")):
        if shipped.is_file():
            return shipped
        names = sorted(p.stem for p in SHIPPED.glob("*.yaml"))
        raise unknown_name("suite", name_or_path, names)
    path = base / name_or_path
    if not path.is_file():
        raise UserError(
            f"there is no suite file {path}",
            fix="give the name of a shipped suite, or a path relative to the matrix",
        )
    return path


def unknown_name(kind: str, given: str, known: list[str]) -> UserError:
    """Return the error for an unknown name, with the nearest known one."""
    mistake = Mistake.unknown((), kind, given, known)
    return UserError(mistake.what, known=mistake.known, fix=mistake.fix)
