"""The tree in the README is the tree on disk: every folder down to two levels in the rooms."""

import re
import subprocess
from pathlib import PurePosixPath

import pytest

from tests.paths import ROOT

ROOMS = ("suites", "runner", "cluster", "analysis", "fleetqual")
#: Folders that are shown too, without the folders in them where these mirror the rooms.
OTHERS = ("tests", "infra", "docs")
_LINE = re.compile(r"(?P<indent> *)(?P<name>\S+/)\s+(?P<comment>\S.*)")
_FENCE = "```\n"


def shown(readme: str) -> dict[str, str]:
    """Return path → comment of every line in the block below the heading "The tree"."""
    block = readme.partition("## The tree\n")[2].split(_FENCE)[1]
    found: dict[str, str] = {}
    parents: list[str] = []
    for line in block.splitlines():
        parts = _LINE.fullmatch(line)
        assert parts, f"not a folder with a comment: {line!r}"
        depth = len(parts["indent"]) // 2
        parents = [*parents[:depth], parts["name"].rstrip("/")]
        assert len(parents) == depth + 1, f"indented without a parent: {line!r}"
        path = "/".join(parents)
        assert path not in found, f"shown twice: {path}"
        found[path] = parts["comment"]
    return found


def tracked() -> set[str]:
    """Return every folder with a file that git tracks."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = map(PurePosixPath, listed.stdout.splitlines())
    return {str(folder) for file in files for folder in file.parents} - {"."}


@pytest.fixture(scope="module")
def tree() -> dict[str, str]:
    return shown((ROOT / "README.md").read_text(encoding="utf-8"))


def test_every_folder_down_to_two_levels_is_shown(tree: dict[str, str]) -> None:
    folders = {f for f in tracked() if f.split("/")[0] in ROOMS and f.count("/") <= 2}
    others = {f for f in tracked() if f in OTHERS or (f.startswith("infra/") and f.count("/") == 1)}
    assert not (folders | others) - set(tree)


def test_everything_that_is_shown_exists(tree: dict[str, str]) -> None:
    assert not set(tree) - tracked()


def test_a_missing_comment_and_a_wrong_indent_are_found() -> None:
    for block in ("suites/\n", "    models/  x\n", "a/  x\na/  y\n"):
        with pytest.raises(AssertionError):
            shown(f"## The tree\n{_FENCE}{block}{_FENCE}")
