"""A configuration whose values are read with a type check; null is the same as a missing key."""

from collections.abc import Mapping
from typing import Any

_NONE: Mapping[str, Any] = {}


class Stated:
    """Values by key, with those that count where a key is missing."""

    def __init__(
        self, values: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> None:
        self.values = values
        self._defaults = defaults or {}

    def get(self, key: str) -> Any:
        """Return a value of any type; its default where the key is missing, None where it is null.

        Null is a statement of its own: ``sliding_window: null`` means that there is none.
        """
        return self.values[key] if key in self.values else self._defaults.get(key)

    def integer(self, key: str) -> int | None:
        found = self.get(key)
        if found is None or type(found) is int:
            return found
        raise self._wrong(key, "an integer")

    def number(self, key: str) -> float | None:
        found = self.get(key)
        if found is None:
            return None
        try:
            if type(found) in (int, float):
                return float(found)
        except OverflowError:
            pass
        raise self._wrong(key, "a number")

    def flag(self, key: str) -> bool | None:
        found = self.get(key)
        if found is None or type(found) is bool:
            return found
        raise self._wrong(key, "true or false")

    def text(self, key: str) -> str | None:
        found = self.get(key)
        if found is None or isinstance(found, str):
            return found
        raise self._wrong(key, "a text")

    def table(self, key: str) -> dict[str, Any]:
        found = self.get(key)
        if found is None or isinstance(found, dict):
            return found or {}
        raise self._wrong(key, "an object")

    def numbers(self, key: str) -> list[float] | None:
        found = self.get(key)
        if found is None:
            return None
        if isinstance(found, list) and all(type(n) in (int, float) for n in found):
            return [float(n) for n in found]
        raise self._wrong(key, "a list of numbers")

    def ids(self, key: str) -> list[int] | None:
        found = self.get(key)
        if found is None:
            return None
        several = found if isinstance(found, list) else [found]
        if all(type(i) is int for i in several):
            return sorted(several)
        raise self._wrong(key, "a token id or a list of them")

    def _wrong(self, key: str, wanted: str) -> ValueError:
        return ValueError(f"{key} is {repr(self.values.get(key))[:80]}, expected {wanted}")
