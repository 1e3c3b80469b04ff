"""Relations: one SQL file each, built when it is asked for, after those that it reads.

``views/<layer>/<name>.sql`` is the relation ``<layer>.<name>``; a layer is a DuckDB schema. The
layer ``public`` is DuckDB's own schema ``main``, so that users name its relations without a layer.
What a query reads is found by DuckDB's parser.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from suites.errors import UserError

VIEWS = Path(__file__).parents[1] / "views"
LAYERS = ("sources", "staging", "compared", "numeric", "chain", "verdicts", "public")
#: A folder of macros: what relations say to people, each sentence once. It holds no relation.
WORDING = "wording"
#: A relation whose file has this comment is a view; all others are tables.
NOT_MATERIALISED = "-- materialised: no"
PUBLIC = "main"
_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)


class Relations:
    """What is built in one connection, and what can be built."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self._con = con
        for layer in LAYERS[:-1]:
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {layer}")
        self._define_wording()

    def _define_wording(self) -> None:
        schemas = self._con.execute("SELECT schema_name FROM duckdb_schemas()").fetchall()
        if (WORDING,) in schemas:
            return
        self._con.execute(f"CREATE SCHEMA {WORDING}")
        for path in sorted((VIEWS / WORDING).glob("*.sql")):
            text = path.read_text(encoding="utf-8")
            try:
                self._con.execute(text)
            except duckdb.Error as error:
                raise _broken(path.relative_to(VIEWS.parent).as_posix(), error, 0) from error

    def build_for(self, query: str) -> None:
        """Build every relation that a query reads and that has a file.

        A query that cannot be parsed builds nothing: DuckDB reports it when the query runs.

        Raises:
            UserError: a relation's file is wrong; the message names the file and the line.
        """
        try:
            needed = reads(query)
        except duckdb.Error:
            return
        self.build(*sorted(needed))

    def build(self, *names: str) -> None:
        """Build relations by name, such as ``staging.pairs``, where they are not there yet.

        Raises:
            UserError: a relation's file is wrong; the message names the file and the line.
        """
        there = self._there()
        for name in names:
            self._build(name, there, ())

    def _there(self) -> set[str]:
        query = (
            "SELECT schema_name, table_name FROM duckdb_tables() "
            "UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal"
        )
        return {_name(*row) for row in self._con.execute(query).fetchall()}

    def _build(self, name: str, there: set[str], wanted_by: tuple[str, ...]) -> None:
        path = file_of(name)
        if name in there or path is None:
            return
        where = path.relative_to(VIEWS.parent).as_posix()
        if name in wanted_by:
            raise UserError(f"reads itself: {' -> '.join([*wanted_by, name])}", where=where)
        text = path.read_text(encoding="utf-8")
        try:
            needs = sorted(reads(text))
        except duckdb.Error as error:
            raise _broken(where, error, 0) from error
        for needed in needs:
            self._build(needed, there, (*wanted_by, name))
        kind = "VIEW" if NOT_MATERIALISED in text else "TABLE"
        schema, _, table = name.rpartition(".")
        try:
            self._con.execute(f'CREATE {kind} "{schema or PUBLIC}"."{table}" AS\n{text}')
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            raise _broken(where, error, 1) from error
        there.add(name)


def public_relations() -> list[str]:
    """Return the names of the relations that users may rely on."""
    return sorted(path.stem for path in (VIEWS / "public").glob("*.sql"))


def file_of(name: str) -> Path | None:
    """Return the file of a relation; None for loaded tables and for names that are no relation."""
    layer, _, table = name.rpartition(".")
    path = VIEWS / (layer or "public") / f"{table}.sql"
    return path if path.is_file() else None


@cache
def reads(query: str) -> frozenset[str]:
    """Return the tables and relations that one SELECT reads, as ``layer.name``; public ones bare.

    Raises:
        duckdb.Error: the query cannot be parsed.
    """
    parsed = json.loads(_parser().execute("SELECT json_serialize_sql(?)", [query]).fetchall()[0][0])
    if parsed["error"]:
        line = query[: int(parsed.get("position") or 0)].count("\n") + 1
        raise duckdb.ParserException(f"{parsed['error_message']}\n\nLINE {line}: ")
    parts: set[str] = set()
    tables: set[str] = set()
    for node in _nodes(parsed):
        if node.get("type") == "BASE_TABLE":
            tables.add(_name(node["schema_name"], node["table_name"]))
        parts.update(part["key"] for part in node.get("cte_map", {}).get("map", ()))
    return frozenset(tables - parts)


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:")


def _broken(where: str, error: duckdb.Error, lines_before: int) -> UserError:
    """Name the file, and the line where DuckDB gives one."""
    message = str(error).strip()
    line = _LINE.search(message)
    at = f":{int(line[1]) - lines_before}" if line else ""
    return UserError(
        message.split("\n\n")[0], where=where + at, fix="correct the relation's SQL, then ask again"
    )


def _name(schema: str, table: str) -> str:
    return table if schema in ("", PUBLIC) else f"{schema}.{table}"


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of a parsed query, in no special order."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
