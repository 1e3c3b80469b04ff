"""``fleetqual sql``: read-only questions to the tables and relations of every run.

All that can be asked is materialised in memory first; then the database is cut off from files,
network and settings, and the settings are locked. A view over Parquet would need allowed paths,
which also permit COPY TO over the evidence.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
from rich.table import Table

from analysis.catalog import Catalog, open_catalog
from analysis.functions import unregister
from analysis.gate import inspect
from analysis.judge import holds
from analysis.output import console, plain, print_json
from runner.store import Store
from suites.errors import UserError

MEMORY_LIMIT = "2GB"
TIME_LIMIT_S = 60.0
SHOWN_ROWS = 200
FETCHED_ROWS = 100_000
#: Kinds of statement that only read.
_READING = frozenset({"SELECT", "EXPLAIN"})


def run_sql(results: str, query: str | None = None, *, as_json: bool = False) -> int:
    """Answer one query, or several from a prompt when ``query`` is None.

    Raises:
        UserError: the query is wrong, does more than read, or takes too long or too much memory.
    """
    with locked_catalog(results) as con:
        if query is not None:
            _answer(con, query, as_json)
            return 0
        names = ", ".join(sorted(r[0] for r in con.execute("SHOW TABLES").fetchall()))
        print(f"Tables and relations: {names}\nEnd a statement with ';', leave with `exit`.")
        for statement in _statements():
            try:
                _answer(con, statement, as_json)
            except UserError as error:
                print(error)
    return 0


@contextmanager
def locked_catalog(results: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection over all runs of a results root that can read and nothing else."""
    store = Store(results)
    runs = store.runs()
    unjudged = [run for run in runs if not holds(store, inspect(store, run))]
    with open_catalog(store, runs, judging=unjudged) as catalog:
        _lock(catalog)
        yield catalog.con


def _lock(catalog: Catalog) -> None:
    unregister(catalog.con)
    catalog.con.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    catalog.con.execute("SET temp_directory = ''")
    catalog.con.execute("SET autoinstall_known_extensions = false")
    catalog.con.execute("SET autoload_known_extensions = false")
    catalog.con.execute("SET python_enable_replacements = false")
    catalog.con.execute("SET enable_external_access = false")
    catalog.con.execute("SET lock_configuration = true")


def ask(con: duckdb.DuckDBPyConnection, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return column names and at most ``FETCHED_ROWS`` rows of one reading statement.

    Raises:
        UserError: it cannot be read, does more than read, fails, or runs into a limit.
    """
    try:
        statements = con.extract_statements(query)
    except duckdb.Error as error:
        raise UserError(_first_lines(error), where="sql") from error
    if len(statements) != 1:
        raise UserError(
            f"{len(statements)} statements where one is expected", where="sql", fix="ask one by one"
        )
    kind = statements[0].type.name
    if kind not in _READING:
        raise UserError(
            f"{kind} is not allowed: evidence is only read",
            where="sql",
            known="SELECT, WITH, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN",
        )
    late = threading.Event()

    def stop() -> None:
        late.set()
        con.interrupt()

    timer = threading.Timer(TIME_LIMIT_S, stop)
    timer.start()
    try:
        # A SELECT may hold a DELETE in a WITH clause, and EXPLAIN ANALYZE runs what it explains.
        con.execute("BEGIN TRANSACTION READ ONLY")
        cursor = con.execute(statements[0])
        return [column[0] for column in cursor.description or ()], cursor.fetchmany(FETCHED_ROWS)
    except duckdb.Error as error:
        if late.is_set():
            raise UserError(
                f"stopped after {TIME_LIMIT_S:.0f} seconds", where="sql", fix="ask for less"
            ) from error
        raise UserError(_first_lines(error), where="sql") from error
    finally:
        timer.cancel()
        with suppress(duckdb.Error):
            con.execute("ROLLBACK")


def _first_lines(error: Exception) -> str:
    return "\n".join(str(error).strip().splitlines()[:6])


def _answer(con: duckdb.DuckDBPyConnection, query: str, as_json: bool) -> None:
    columns, rows = ask(con, query)
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    table = Table()
    for column in columns:
        table.add_column(plain(column), overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        table.add_row(*(plain(value, limit=200) for value in row))
    console().print(table)
    if len(rows) > SHOWN_ROWS:
        many = f"{len(rows)} or more" if len(rows) == FETCHED_ROWS else str(len(rows))
        print(f"shown: the first {SHOWN_ROWS} of {many} rows (--json gives more)")


def _statements() -> Iterator[str]:
    """Yield what is typed, statement by statement, until ``exit`` or the end of input."""
    lines: list[str] = []
    while True:
        try:
            line = input("... " if lines else "sql> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if not lines and line.strip().rstrip(";").lower() in ("exit", "quit"):
            return
        lines.append(line)
        if line.rstrip().endswith(";"):
            yield "\n".join(lines)
            lines = []
