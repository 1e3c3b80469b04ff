"""Where nothing vouches for the instrument, no verdict rests on numbers."""

from collections.abc import Iterator

import duckdb
import pytest

from tests.analysis.bare import bare, view

_VERDICTS = (
    "run_id VARCHAR, cell_id VARCHAR, node_id VARCHAR, stage VARCHAR, case_group VARCHAR, "
    "verdict VARCHAR, reason STRUCT(code VARCHAR, text VARCHAR), explanation VARCHAR"
)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with bare() as con:
        con.execute(f"CREATE TABLE verdicts.exact ({_VERDICTS})")
        con.execute(f"CREATE TABLE verdicts.logits ({_VERDICTS})")
        con.execute(
            "CREATE TABLE compared.state (run_id VARCHAR, cell_id VARCHAR, node_id VARCHAR, "
            "judged BOOLEAN, leak BOOLEAN, chat BOOLEAN, outcome VARCHAR, tags VARCHAR[])"
        )
        con.execute(f"CREATE VIEW verdicts.instrument AS {view('verdicts.instrument')}")
        yield con


def judged(
    con: duckdb.DuckDBPyConnection, instrument: str | None, stage: str, verdict: str
) -> tuple[str, str | None]:
    """Return verdict and reason of a stage, given what the instrument's verdict is."""
    rows: list[tuple[str, str, str | None]] = [(stage, verdict, None)]
    rows += [] if instrument is None else [("instrument", instrument, "repeats say so")]
    for name, said, why in rows:
        con.execute(
            "INSERT INTO verdicts.exact VALUES "
            "('r', 'c', 'n', ?, '*', ?, {'code': 'x', 'text': ?}, ?)",
            [name, said, why if said != "divergent" else "1 of 4 differ", "asked again: other"],
        )
    query = f"SELECT verdict, reason.text FROM ({view('verdicts.isolates')}) "
    ((found, reason),) = con.execute(f"{query} WHERE stage = ?", [stage]).fetchall()
    return found, reason


@pytest.mark.parametrize("stage", ["state", "sampling"])
@pytest.mark.parametrize("verdict", ["qualified", "divergent", "expected"])
def test_a_steady_instrument_leaves_verdicts_as_they_are(
    con: duckdb.DuckDBPyConnection, stage: str, verdict: str
) -> None:
    assert judged(con, "qualified", stage, verdict)[0] == verdict


@pytest.mark.parametrize("stage", ["state", "sampling"])
@pytest.mark.parametrize("verdict", ["qualified", "divergent", "expected"])
def test_a_broken_instrument_decides_nothing_numeric(
    con: duckdb.DuckDBPyConnection, stage: str, verdict: str
) -> None:
    found, reason = judged(con, "divergent", stage, verdict)
    assert found == "inconclusive"
    assert reason == "the instrument is divergent: asked again: other"


@pytest.mark.parametrize(
    ("instrument", "reason"),
    [
        ("not_observed", "the instrument is not observed: repeats say so"),
        ("inconclusive", "the instrument is inconclusive: repeats say so"),
        (None, "the instrument is missing: no reason recorded"),
    ],
)
def test_an_instrument_that_nobody_saw_is_no_steady_one(
    con: duckdb.DuckDBPyConnection, instrument: str | None, reason: str
) -> None:
    assert judged(con, instrument, "state", "qualified") == ("inconclusive", reason)


def test_exact_stages_need_no_instrument(con: duckdb.DuckDBPyConnection) -> None:
    assert judged(con, "divergent", "stop", "divergent")[0] == "divergent"


def test_what_was_not_observed_stays_not_observed(con: duckdb.DuckDBPyConnection) -> None:
    assert judged(con, "divergent", "state", "not_observed")[0] == "not_observed"


@pytest.mark.parametrize(("leak", "verdict"), [(True, "divergent"), (False, "inconclusive")])
def test_a_foreign_secret_is_no_number_and_stays_a_fault(
    con: duckdb.DuckDBPyConnection, leak: bool, verdict: str
) -> None:
    con.execute(
        "INSERT INTO compared.state VALUES ('r', 'c', 'n', true, ?, false, 'mismatch', [])", [leak]
    )
    assert judged(con, "divergent", "state", "divergent")[0] == verdict


@pytest.mark.parametrize(
    ("instrument", "chats", "verdict"),
    [
        ("not_observed", [True, True], "qualified"),
        ("not_observed", [True, False], "inconclusive"),
        ("divergent", [True, True], "inconclusive"),
    ],
)
def test_equal_texts_need_no_numbers_unless_those_are_known_to_be_unsteady(
    con: duckdb.DuckDBPyConnection, instrument: str, chats: list[bool], verdict: str
) -> None:
    for chat in chats:
        con.execute(
            "INSERT INTO compared.state VALUES ('r', 'c', 'n', true, false, ?, 'match', [])", [chat]
        )
    assert judged(con, instrument, "state", "qualified")[0] == verdict
