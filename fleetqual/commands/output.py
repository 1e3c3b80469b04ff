"""How commands print tables and JSON."""

import json
from collections.abc import Sequence
from typing import Any

import typer


def print_table(columns: list[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(Text("" if value is None else str(value)) for value in row))
    if console.is_terminal:
        console.print(table)
    else:
        # A log or pipe has no width of its own: nothing may be cut short there.
        Console(width=10_000).print(table)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
