"""``fleetqual sql``: read-only questions to the tables and relations of every run.

All that can be asked is materialised in memory first; then the database is cut off from files,
network and settings, and the settings are locked. A view over Parquet would need allowed paths,
which also permit COPY TO over the evidence.
"""

import itertools
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa
from rich.table import Table

from analysis.judging.catalog import Catalog, choose_run
from analysis.judging.judge import open_current
from analysis.judging.relations import public_relations
from analysis.showing.output import console, plain, print_json
from analysis.sql_functions.registered import unregister
from runner.stored.store import Store
from suites.errors import UserError

MEMORY_LIMIT = "2GB"
TIME_LIMIT_S = 60.0
SHOWN_ROWS = 200
FETCHED_ROWS = 100_000
ARROW_ROWS = 20_000_000
#: How a statement that reads begins; of all others the kind is named in the refusal.
_ASKING = frozenset({"SELECT", "WITH", "FROM", "PIVOT", "UNPIVOT", "(", "VALUES", "TABLE"})
_EXPLAIN = re.compile(r"EXPLAIN\b", re.IGNORECASE)
_ANALYZE = re.compile(r"(?:ANALYZE|VERBOSE)\b|\([^()]*\)", re.IGNORECASE)


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
def locked_catalog(results: str, run_id: str | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection that can only read: over one run, or over all runs when None.

    Raises:
        UserError: there is no such run, or the evidence does not fit into the allowed memory.
    """
    store = Store(results)
    runs = store.runs() if run_id is None else [choose_run(store, run_id)]
    with ExitStack() as stack:
        try:
            catalog = stack.enter_context(open_current(store, runs, memory_limit=MEMORY_LIMIT)[0])
            catalog.relations.build(*public_relations())
        except duckdb.OutOfMemoryException as error:
            raise UserError(
                f"the evidence of {len(runs)} runs does not fit into {MEMORY_LIMIT}",
                where=store.root,
                fix="open one run, or a results root with fewer runs",
            ) from error
        _lock(catalog)
        yield catalog.con


def _lock(catalog: Catalog) -> None:
    unregister(catalog.con)
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
    with _read_only(con, query) as statement:
        cursor = con.execute(statement)
        columns = list(cursor.description or ())
        if any("TIME ZONE" in str(column[1]) for column in columns):
            # As Python values these would need pytz.
            cursor = con.execute(_with_texts(statement.query, columns))
        return [column[0] for column in columns], cursor.fetchmany(FETCHED_ROWS)


def arrow_table(con: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """Return all rows of one reading statement as an Arrow table.

    Raises:
        UserError: as in :func:`ask`; or there are more than ``ARROW_ROWS`` rows.
    """
    with _read_only(con, query) as statement, warnings.catch_warnings():
        # DuckDB advises con.sql(), which would take text and so escape the check of the statement.
        warnings.simplefilter("ignore", UserWarning)
        # An open reader would keep the transaction open.
        reader: Any = con.execute(statement).to_arrow_reader()
        with reader:
            batches, rows = [], 0
            for batch in reader:
                batches.append(batch)
                rows += batch.num_rows
                if rows > ARROW_ROWS:
                    raise UserError(
                        f"more than {ARROW_ROWS} rows", where="sql", fix="add a WHERE or a LIMIT"
                    )
            return pa.Table.from_batches(batches, reader.schema)


@contextmanager
def _read_only(con: duckdb.DuckDBPyConnection, query: str) -> Iterator[duckdb.Statement]:
    """Yield the one reading statement of a query, in a read-only transaction with a time limit."""
    try:
        statements = con.extract_statements(query)
    except duckdb.Error as error:
        raise UserError(_first_lines(error), where="sql") from error
    if len(statements) != 1:
        raise UserError(
            f"{len(statements)} statements where one is expected", where="sql", fix="ask one by one"
        )
    kind = _kind(con, statements[0])
    if kind != "SELECT":
        raise UserError(
            f"{kind} is not allowed: evidence is only read",
            where="sql",
            known="SELECT, WITH, PIVOT, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN of these",
        )
    late = threading.Event()

    def stop() -> None:
        late.set()
        con.interrupt()

    timer = threading.Timer(TIME_LIMIT_S, stop)
    timer.start()
    try:
        # A SELECT may hold a DELETE in a WITH clause.
        con.execute("BEGIN TRANSACTION READ ONLY")
        yield statements[0]
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


def _kind(con: duckdb.DuckDBPyConnection, statement: duckdb.Statement) -> str:
    """Return SELECT for what only reads, else what it is.

    EXPLAIN ANALYZE runs what it explains, so it is what it explains. A PIVOT without a list of
    values is several statements inside; it is known by how it begins.
    """
    kind, text = statement.type.name, _without_comments(statement.query)
    if kind == "MULTI":
        first = re.match(r"\(|\w+", text)
        return "SELECT" if first and first[0].upper() in _ASKING else "a statement of several parts"
    if kind != "EXPLAIN":
        return kind
    rest = _EXPLAIN.sub("", text, count=1).lstrip()
    option = _ANALYZE.match(rest)
    for inner in [rest[option.end() :], rest] if option else [rest]:
        with suppress(duckdb.Error):
            found = con.extract_statements(inner)
            if len(found) == 1 and found[0].type.name != "EXPLAIN":
                explained = _kind(con, found[0])
                return explained if explained == "SELECT" else f"EXPLAIN of {explained}"
    return "EXPLAIN of anything but a question"


def _without_comments(text: str) -> str:
    """Return a statement from its first word on; comments before and between go."""
    tokens = duckdb.tokenize(text)
    ends = [offset for offset, _ in tokens[1:]] + [len(text)]
    comment = duckdb.token_type.comment
    kept = [
        text[start:end] for (start, kind), end in zip(tokens, ends, strict=True) if kind != comment
    ]
    return "".join(kept).lstrip()


def _with_texts(query: str, columns: Sequence[Any]) -> str:
    chosen = ", ".join(
        f"CAST(#{n} AS VARCHAR)" if "TIME ZONE" in str(column[1]) else f"#{n}"
        for n, column in enumerate(columns, start=1)
    )
    return f"SELECT {chosen} FROM ({query.strip().rstrip(';')}\n)"


def _first_lines(error: Exception) -> str:
    return "\n".join(str(error).strip().splitlines()[:6])


def _answer(con: duckdb.DuckDBPyConnection, query: str, as_json: bool) -> None:
    columns, rows = ask(con, query)
    if as_json:
        print_json([dict(zip(_distinct(columns), row, strict=True)) for row in rows])
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


def _distinct(columns: Sequence[str]) -> list[str]:
    """Return names of which no two are equal, so that an object keeps every column."""
    names: list[str] = []
    for column in columns:
        free = (f"{column}_{n}" for n in itertools.count(1))
        names.append(column if column not in names else next(f for f in free if f not in names))
    return names


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
