"""Redaction: a server's API key is removed from everything that the engine child reports."""

import json
from typing import Any

#: Replaces the key where a server repeated it.
REDACTED = "[API key]"
#: A shorter key would also be found inside other words.
SHORTEST_KEY = 6


class Redaction:
    """Removes one API key from bytes and texts, in each form in which JSON may write it."""

    def __init__(self, key: str | None) -> None:
        raw = key if key and len(key) >= SHORTEST_KEY else None
        forms = set[str]()
        for ascii_only in (True, False) if raw else ():
            once = json.dumps(raw, ensure_ascii=ascii_only)[1:-1]
            forms |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
        forms |= {form.replace("/", "\\/") for form in forms}
        self._forms = sorted(forms | ({raw} if raw else set()), key=len, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def text(self, text: str) -> str:
        """Return a text without the key."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text

    def raw(self, data: bytes) -> bytes:
        """Return bytes without the key."""
        for form in self._forms:
            data = data.replace(form.encode("utf-8", "surrogatepass"), REDACTED.encode())
        return data

    def value(self, value: Any) -> Any:
        """Return a JSON value without the key in any of its texts."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.value(key): self.value(item) for key, item in value.items()}
        return value
