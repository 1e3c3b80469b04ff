"""A database without evidence: a test of one relation fills in by hand what the relation reads."""

import duckdb

from analysis.judging.relations import Relations, file_of
from analysis.sql_functions.registered import register


def bare(*relations: str) -> duckdb.DuckDBPyConnection:
    """Open an empty database with all layers, and build relations that read no evidence."""
    con = duckdb.connect(":memory:")
    register(con)
    Relations(con).build(*relations)
    return con


def view(name: str) -> str:
    """Return the SQL of a relation, such as ``numeric.profiles``."""
    path = file_of(name)
    assert path is not None, f"no file of relation {name}"
    return path.read_text(encoding="utf-8")
