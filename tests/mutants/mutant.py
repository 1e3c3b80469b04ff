"""One small change to one file."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """Replace ``text[start:end]`` of a file by ``replacement``."""

    file: str
    """Relative to the root of the tree, with ``/``."""
    text: str
    """The whole file, unchanged."""
    start: int
    end: int
    replacement: str

    @property
    def line(self) -> int:
        """The line on which the change begins, counted from 1."""
        return self.text.count("\n", 0, self.start) + 1

    @property
    def line_text(self) -> str:
        """The text of that line, without spaces around it."""
        return self.text.splitlines()[self.line - 1].strip()

    @property
    def change(self) -> str:
        """What is replaced by what, on one line."""
        old, new = self.text[self.start : self.end], self.replacement
        return f"{_one_line(old)} -> {_one_line(new)}"

    @property
    def changed(self) -> str:
        """The whole file with the change."""
        return self.text[: self.start] + self.replacement + self.text[self.end :]

    def apply(self, root: Path) -> None:
        """Write the changed file below ``root``."""
        (root / self.file).write_text(self.changed, encoding="utf-8")

    def undo(self, root: Path) -> None:
        """Write the file as it was."""
        (root / self.file).write_text(self.text, encoding="utf-8")


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "(nothing)"
