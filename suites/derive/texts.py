"""Texts that tokenizers and detokenizers get wrong, kept in ``texts.yaml``."""

from functools import cache
from pathlib import Path

from suites.errors import UserError
from suites.yaml_document import Document

_FILE = Path(__file__).with_name("texts.yaml")


@cache
def groups() -> dict[str, dict[str, str]]:
    """Return group → name → text, in the order of the file."""
    found = Document(_FILE).value
    if not isinstance(found, dict):
        raise UserError("expected groups of named texts", where=str(_FILE))
    return found


@cache
def named() -> dict[str, str]:
    """Return name → text of all groups."""
    return {name: text for texts in groups().values() for name, text in texts.items()}
