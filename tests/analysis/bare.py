"""A database without evidence: a test of one relation fills in by hand what the relation reads."""

import duckdb
import numpy as np
import pyarrow as pa

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


def floor_fits(
    con: duckdb.DuckDBPyConnection,
    kls: np.ndarray,
    dtype: str = "F32",
    engine: str = "transformers",
) -> pa.Table:
    """Fit floors; ``kls`` has one row per floor and one column per configuration."""
    con.execute(
        "CREATE OR REPLACE TABLE sources.reference_roots AS "
        "SELECT 'r' AS run_id, 0 AS rank, 'x' AS root"
    )
    floors, configurations = np.indices(kls.shape)
    con.register(
        "kls",
        pa.table({"f": floors.ravel(), "i": configurations.ravel(), "mean_kl": kls.ravel()}),
    )
    con.execute(
        "CREATE OR REPLACE TABLE sources.floors AS SELECT 'x' AS root, f::VARCHAR AS floor_id, "
        f"'fn' AS function_digest, 'w' AS weights_digest, '{dtype}' AS compute_dtype, "
        f"'cpu' AS backend, 'smoke' AS suite, 'decode' AS probe, '{engine}' AS engine, "
        "TIMESTAMP '2026-01-01' AS created, i::VARCHAR AS configuration, mean_kl, "
        "0.0 AS max_flip_margin FROM kls"
    )
    con.execute(
        "CREATE OR REPLACE TABLE staging.truth_keys AS SELECT 'r' AS run_id, "
        "'fn' AS function_digest, 'w' AS weights_digest, 'fn' AS found_by"
    )
    query = f"SELECT * FROM ({view('numeric.floor_fits')}) ORDER BY floor_id::INT"
    return con.sql(query).to_arrow_table()
