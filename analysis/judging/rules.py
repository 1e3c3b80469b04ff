"""The thresholds of the judgement, for Python code that decides something too."""

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import Any

import duckdb

from analysis.judging.relations import Relations
from analysis.sql_functions.registered import register


@cache
def rules() -> Mapping[str, Any]:
    """Return the row of ``sources.rules``: every threshold by its name."""
    with duckdb.connect(":memory:") as con:
        # The sentences that stand beside the relations call SQL functions of ours.
        register(con)
        Relations(con).build("sources.rules")
        (row,) = con.sql("FROM sources.rules").to_arrow_table().to_pylist()
    # DuckDB reads 0.95 as a decimal, which no float equals.
    return MappingProxyType(
        {name: float(value) if isinstance(value, Decimal) else value for name, value in row.items()}
    )
