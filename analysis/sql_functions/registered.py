"""The Python functions that SQL calls: what SQL itself cannot compute.

Evidence is untrusted, and an error in a function would make the whole run unjudgeable. So every
function is total: what it cannot parse is compared as the text that it is.
"""

from collections.abc import Callable
from typing import Any

import duckdb

from analysis.sql_functions.answer_symptom import answer_symptom, shared_bytes
from analysis.sql_functions.declared_sampler import fits_sampler
from analysis.sql_functions.differences import shown_difference
from analysis.sql_functions.likely_sampler import likely_sampler
from analysis.sql_functions.messages import canonical_message
from analysis.sql_functions.statistics import (
    binomial_p,
    binomial_power,
    binomial_upper,
    binomial_upper_tail,
    chi2_power,
    chi2_upper_tail,
    t_upper_tail,
)
from analysis.sql_functions.versions import version_in
from runner.stored.canonical import canonical_fact, output_digest


def register(con: duckdb.DuckDBPyConnection) -> None:
    """Make the functions known to a connection; each returns NULL for a NULL argument."""
    for function, arguments, returns in _FUNCTIONS:
        types: list[Any] = list(arguments)
        con.create_function(function.__name__, function, types, duckdb.type(returns))


def unregister(con: duckdb.DuckDBPyConnection) -> None:
    """Take the functions away again, so that users' queries run no Python."""
    for function, _, _ in _FUNCTIONS:
        con.remove_function(function.__name__)


_FUNCTIONS: tuple[tuple[Callable[..., Any], tuple[str, ...], str], ...] = (
    (t_upper_tail, ("DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_upper, ("DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (chi2_upper_tail, ("DOUBLE", "DOUBLE"), "DOUBLE"),
    (chi2_power, ("DOUBLE", "DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_p, ("DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_upper_tail, ("DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (binomial_power, ("DOUBLE", "DOUBLE", "DOUBLE", "DOUBLE"), "DOUBLE"),
    (version_in, ("VARCHAR", "VARCHAR"), "BOOLEAN"),
    (canonical_fact, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    (output_digest, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    (canonical_message, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    (shown_difference, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    (answer_symptom, ("VARCHAR", "VARCHAR", "VARCHAR", "VARCHAR"), "VARCHAR"),
    (shared_bytes, ("VARCHAR", "VARCHAR"), "BIGINT"),
    (
        fits_sampler,
        ("INTEGER[]", "FLOAT[]", "VARCHAR", "VARCHAR", "DOUBLE", "DOUBLE"),
        "BOOLEAN",
    ),
    (
        likely_sampler,
        ("INTEGER[]", "FLOAT[]", "VARCHAR", "VARCHAR", "DOUBLE", "DOUBLE", "DOUBLE"),
        "VARCHAR",
    ),
)
