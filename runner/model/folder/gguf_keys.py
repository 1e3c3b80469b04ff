"""The keys of one architecture in a GGUF's metadata, read with a type check."""

from typing import Any

import numpy as np

from runner.model.gguf_reading import GgufReading
from suites.errors import UserError

_FIX = "give the model's Hugging Face folder, or a GGUF made by a newer converter"


class GgufKeys:
    """Values below the architecture's name; those that were asked for are noted as read."""

    def __init__(self, reading: GgufReading, architecture: str) -> None:
        self.reading = reading
        self._prefix = f"{architecture}."
        self._read: set[str] = set()

    @property
    def unread(self) -> list[str]:
        """Keys of the architecture that nobody asked for."""
        keys = (key for key in self.reading.metadata if key.startswith(self._prefix))
        return sorted(key for key in keys if key.removeprefix(self._prefix) not in self._read)

    def has(self, key: str) -> bool:
        """Whether the file states the key."""
        self._read.add(key)
        return self._prefix + key in self.reading.metadata

    def plain(self, key: str) -> Any:
        """Return a value that is stated once, or for each layer and then the same; else None."""
        if not self.has(key):
            return None
        found = self.reading.metadata[self._prefix + key]
        if isinstance(found, np.ndarray):
            if found.size == 0 or np.any(found != found[0]):
                raise self.wrong(f"{key} differs between layers, which is not read yet")
            found = found[0].item()
        # The file keeps fp32; seven digits are all that it can say.
        return float(f"{found:.7g}") if isinstance(found, float) else found

    def count(self, key: str, default: int | None = None) -> int:
        """Return a count of 1 or more; raises UserError if it is missing and has no default."""
        found = self.plain(key)
        if found is None and default is not None:
            return default
        if found is None:
            raise self._missing(key)
        if type(found) is not int or not 0 < found < 1 << 31:
            raise self.wrong(f"{self._prefix}{key} is {found!r:.80}, expected a count")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number above 0; raises UserError if it is missing and has no default."""
        found = self.plain(key)
        if found is None and default is not None:
            return default
        if found is None:
            raise self._missing(key)
        if type(found) not in (int, float) or not 0 < found < 1e12:
            raise self.wrong(f"{self._prefix}{key} is {found!r:.80}, expected a number above 0")
        return float(found)

    def wrong(self, what: str) -> UserError:
        """Return an error of this file."""
        return UserError(what, where=str(self.reading.path), fix=_FIX)

    def _missing(self, key: str) -> UserError:
        return self.wrong(f"the key {self._prefix}{key} is missing")
