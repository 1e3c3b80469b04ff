"""Files that a matrix names: found, or refused with the matrix's line."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from suites.errors import UserError
from suites.mistakes import KeyPath
from suites.yaml_document import Document

_P = ParamSpec("_P")
_T = TypeVar("_T")


def check_exists(document: Document, key: KeyPath, path: Path, *, folder: bool) -> None:
    """Raise UserError if the matrix's ``key`` names no such file, or no such folder."""
    if path.is_dir() if folder else path.is_file():
        return
    kind = "folder" if folder else "file"
    other = path.is_file() if folder else path.is_dir()
    raise UserError(
        f"{path} is not a {kind}" if other else f"there is no {kind} {path}",
        where=document.where(key),
        fix=f"check the path; paths are relative to {document.path.parent}",
    )


def located(
    document: Document, key: KeyPath, read: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Return what ``read`` returns; an error without a place gets the matrix's line."""
    try:
        return read(*args, **kwargs)
    except UserError as error:
        if error.where:
            raise
        raise UserError(
            error.what, where=document.where(key), known=error.known, fix=error.fix
        ) from error


def absolute(path: Path) -> Path:
    """Return the path from the root; symbolic links are kept."""
    return Path(os.path.abspath(path))
