"""Results for notebooks: tables and views of runs, read with SQL, as Arrow tables."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

import pyarrow as pa

from analysis.showing.sql import arrow_table, locked_catalog
from suites.errors import UserError


class Results:
    """The tables and views of one run or of all runs; they can be read and not changed.

    Everything is in memory: files that change later are not seen. Close it after use, or open it
    in a ``with`` statement.
    """

    def __init__(self, results: str, run: str | None = None) -> None:
        self._name = f"{results}, run {run}" if run else results
        self._held = ExitStack()
        self._closed = False
        self._con = self._held.enter_context(locked_catalog(results, run))

    def sql(self, query: str) -> pa.Table:
        """Return the rows of one reading statement as an Arrow table.

        Raises:
            suites.errors.UserError: the query is wrong, does more than read, takes longer than a
                minute, or returns too many rows; or the results are closed.
        """
        if self._closed:
            raise UserError("the results are closed", where=self._name, fix="open them again")
        return arrow_table(self._con, query)

    @property
    def tables(self) -> list[str]:
        """Names of the tables and views that a query can read."""
        return sorted(self.sql("SHOW TABLES").column(0).to_pylist())

    def close(self) -> None:
        """Free the memory; a closed object answers no query."""
        self._closed = True
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fleetqual results: {self._name}{' (closed)' if self._closed else ''}>"
