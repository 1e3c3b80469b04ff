"""The shape of KL over positions: where inside the logits a fault lies."""

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from tests.analysis.arranged import Halves, arranged
from tests.analysis.bare import bare, view
from tests.analysis.handmade import Bench
from tests.analysis.handmade_truth import LOGITS, distribution, true_ids, true_logits

POSITIONS = 400


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with bare("sources.rules") as con:
        yield con


def profile(con: duckdb.DuckDBPyConnection, kl: np.ndarray, **given: Any) -> dict[str, Any]:
    """Return the only row of ``profiles``."""
    (row,) = profiles(con, kl, **given)
    return row


def profiles(
    con: duckdb.DuckDBPyConnection,
    kl: np.ndarray,
    *,
    start: Any = 0,
    window: int | None = None,
    options: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the profiles of KL [cases, positions], with noise of a factor of 2 upon it.

    What a short case does not reach is NaN.
    """
    reached = ~np.isnan(kl)
    noise = np.exp(np.random.default_rng(7).normal(0, np.log(2), kl.shape))
    noisy = (kl * noise)[reached]
    cases, places = np.nonzero(reached)
    numbers = pa.table(
        {
            "case_id": [f"c{i}" for i in cases],
            "position": places.tolist(),
            "kl": noisy.tolist(),
            "x": np.log(noisy + 1e-12).tolist(),
        }
    )
    con.register("numbers", numbers)
    keys = "'r' AS run_id, 'c' AS cell_id, 'n' AS node_id, 1 AS attempt"
    con.execute(
        f"CREATE TABLE positions AS SELECT 'reference' AS kind, {keys}, 'logits' AS stage, "
        "'prefill' AS probe, 0 AS repeat, false AS nonfinite, * FROM numbers"
    )
    con.execute(f"CREATE TABLE traces AS SELECT '{json.dumps({'start': start})}' AS value")
    con.execute(
        f"CREATE TABLE staging.observations AS SELECT DISTINCT {keys}, true AS judged, "
        "'logits' AS stage, 'prefill' AS probe, case_id, 0 AS repeat, 'numeric' AS outcome, "
        "0 AS trace_row "
        "FROM numbers"
    )
    con.execute(
        f"CREATE TABLE compared.config AS SELECT {keys}, true AS judged, "
        "'config/sliding_window' AS case_id, ?::VARCHAR AS seen, NULL::VARCHAR AS expected",
        [None if window is None else str(window)],
    )
    con.execute(
        f"CREATE TABLE staging.pairs AS SELECT {keys}, 1 AS judged_attempt, 'llama_cpp' AS engine"
    )
    con.execute(f"CREATE TABLE attempts AS SELECT {keys}, '{{}}' AS probe_overrides")
    config = {"matrix": {"engines": [{"engine": "llama_cpp", "options": options or {}}]}}
    con.execute(f"CREATE TABLE runs AS SELECT 'r' AS run_id, '{json.dumps(config)}' AS config")
    return [dict(row) for row in con.sql(view("numeric.profiles")).to_arrow_table().to_pylist()]


def level(cases: int = 6) -> np.ndarray:
    return np.full((cases, POSITIONS), 1e-6)


def test_equal_differences_everywhere_are_flat(con: duckdb.DuckDBPyConnection) -> None:
    found = profile(con, level())
    assert found["shape"] == "flat"
    assert found["border"] is found["position"] is None


@pytest.mark.parametrize("at", [37, 255, 256, 257])
def test_a_step_is_found_where_it_is_and_named_where_a_border_is_near(
    con: duckdb.DuckDBPyConnection, at: int
) -> None:
    kl = level()
    kl[:, at:] *= 1000
    found = profile(con, kl)
    assert found["shape"] == f"step at {at}"
    assert found["border"] == (None if at == 37 else "2^8")
    assert found["rise"] == pytest.approx(np.log(1000), rel=0.1)


def test_a_window_or_an_option_names_a_border_before_a_power_of_two(
    con: duckdb.DuckDBPyConnection,
) -> None:
    kl = level()
    kl[:, 128:] *= 1000
    options = {"n_batch": 128, "n_threads": 2, "flash_attn": True}
    found = profile(con, kl, window=128, options=options)
    assert found["border"] == "the sliding window of 128"


def test_an_option_names_a_border(con: duckdb.DuckDBPyConnection) -> None:
    kl = level()
    kl[:, 100:] *= 1000
    found = profile(con, kl, options={"n_batch": 100, "verbose": False})
    assert found["shape"] == "step at 100"
    assert found["border"] == "n_batch 100"


def test_a_step_down_is_said_to_drop(con: duckdb.DuckDBPyConnection) -> None:
    kl = level()
    kl[:, :64] *= 1000
    found = profile(con, kl)
    assert found["shape"] == "step at 64"
    assert "it drops" in found["told"]


def test_few_long_cases_show_a_step_that_short_ones_never_reach(
    con: duckdb.DuckDBPyConnection,
) -> None:
    kl = level(20)
    kl[0, 300:] *= 1000
    kl[1:, 100:] = np.nan
    assert profile(con, kl)["shape"] == "step at 300"


@pytest.mark.parametrize("power", [1, 2])
def test_growth_with_distance_is_told_from_a_step(
    con: duckdb.DuckDBPyConnection, power: int
) -> None:
    kl = level() * (1 + np.arange(POSITIONS)) ** power
    found = profile(con, kl)
    assert found["shape"] == "growth with distance"
    assert "RoPE" in found["told"]


def test_a_single_row_holds_nearly_all(con: duckdb.DuckDBPyConnection) -> None:
    kl = level()
    kl[:, 17] = 1.0
    found = profile(con, kl)
    assert found["shape"] == "single row 17"


def test_positions_of_decoding_count_from_the_beginning_of_the_ids(
    con: duckdb.DuckDBPyConnection,
) -> None:
    kl = level()
    kl[:, 28:] *= 1000
    assert profile(con, kl, start=100)["shape"] == "step at 128"


@pytest.mark.parametrize("start", ["x", None, 1.0, "1e40", {"at": 3}])
def test_a_start_that_is_no_number_counts_from_the_beginning(
    con: duckdb.DuckDBPyConnection, start: Any
) -> None:
    kl = level()
    kl[:, 128:] *= 1000
    found = profile(con, kl, start=start)
    assert found["shape"] == f"step at {129 if start == 1.0 else 128}"


@pytest.mark.parametrize("start", [-5, -1, 2**24 + 1, 2**63 - 1])
def test_of_positions_that_cannot_be_nothing_is_said(
    con: duckdb.DuckDBPyConnection, start: int
) -> None:
    assert profiles(con, level(), start=start) == []


@pytest.mark.parametrize("width", [-(2**63), 2**63 - 1, "wide", 1])
def test_an_option_that_is_no_border_is_none(con: duckdb.DuckDBPyConnection, width: Any) -> None:
    kl = level()
    kl[:, 100:] *= 1000
    found = profile(con, kl, options={"n_batch": width})
    assert (found["shape"], found["border"]) == ("step at 100", None)


@arranged
def test_a_divergent_stage_says_its_profile(bench: Bench) -> Halves:
    for case in LOGITS:
        z = true_logits(case)
        size = np.where(np.arange(len(z)) < 6, 1e-5, 1.0)[:, None]
        z = z + size * np.random.default_rng(1).normal(0, 0.3, z.shape)
        bench.attempt.change("logits", case, "prefill", **distribution(z, true_ids(case)))
    found = yield
    assert "it steps up at position 6" in found.cell()["explanation"]


@arranged
def test_even_noise_says_nothing_of_positions(bench: Bench) -> Halves:
    bench.attempt.logits(0.3)
    found = yield
    assert found.cell()["culprit"] == "logits"
    assert "spread evenly" not in found.cell()["explanation"]
    assert {row["shape"] for row in found.rows("numeric.profiles")} == {"flat"}
