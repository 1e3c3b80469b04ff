"""Onto the terminal and into JSON: evidence is untrusted text, and NaN is no JSON."""

import datetime as dt
import json
import math
import sys
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.sql_functions.differences import printable

#: Columns of a log file or a pipe, where the terminal has none to say.
_LOG_WIDTH = 160

STYLES = {
    "qualified": "green",
    "expected": "cyan",
    "divergent": "bold red",
    "inconclusive": "yellow",
    "not_observed": "dim",
    "error": "magenta",
}


def console() -> Console:
    """Return a console on standard output that neither guesses markup nor breaks logs at 80."""
    width = None if sys.stdout.isatty() else _LOG_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def plain(value: object, style: str = "", limit: int = 600) -> Text:
    """Return untrusted text for the terminal: escape codes spelt out, overlong text cut."""
    text = "–" if value is None else printable(str(value))
    return Text(text if len(text) <= limit else text[: limit - 1] + "…", style=style)


def verdict_text(verdict: str, after: str = "") -> Text:
    """Return a verdict in its colour, with what stands behind it."""
    return Text(verdict + after, style=STYLES.get(verdict, ""))


def print_json(value: Any) -> None:
    """Print ``value`` as JSON; times in ISO format, what is not finite as null."""
    print(json.dumps(as_json(value), ensure_ascii=False, indent=2, allow_nan=False))


def as_json(value: Any) -> Any:
    """Return ``value`` in types that JSON has; bytes as text where they are, else as hex."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=value.tzinfo or dt.UTC).isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if value is None or isinstance(value, str | int | bool) else str(value)
