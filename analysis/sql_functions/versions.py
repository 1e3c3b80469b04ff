"""Version ranges of declared differences, for SQL."""

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from runner.stored.canonical import UNREADABLE


def version_in(version: str, versions: str) -> bool:
    """Whether a version lies in a range such as ``>=0.3,<0.4``; an unreadable one does not."""
    try:
        return SpecifierSet(versions).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier, *UNREADABLE):
        return False
