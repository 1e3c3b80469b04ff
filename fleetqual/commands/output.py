"""How commands print tables and JSON. Control codes in values are escaped: text is untrusted."""

from collections.abc import Sequence
from typing import Any

_MOST_CHARACTERS = 10_000


def print_table(columns: list[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on standard output; None is an empty field."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from analysis.showing.output import plain

    console = Console()
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        fields = ("" if value is None else value for value in row)
        table.add_row(*(plain(field, limit=_MOST_CHARACTERS) for field in fields))
    if console.is_terminal:
        console.print(table)
    else:
        # A log or a pipe has no width of its own, and nothing may be cut there.
        Console(width=_MOST_CHARACTERS).print(table)


def print_json(value: Any) -> None:
    """Print a value as JSON; NaN and infinity become null, times are in ISO format."""
    from analysis.showing.output import print_json as print_value

    print_value(value)
