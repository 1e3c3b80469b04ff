"""The statistics in SQL against scipy's."""

from collections.abc import Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from tests.analysis.bare import bare, floor_fits, view


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with bare("sources.rules", "sources.floor_priors") as con:
        con.execute("CREATE TABLE sources.judging AS SELECT 'r' AS run_id")
        yield con


def test_bounds_agree_with_scipys_bootstrap_over_cases(con: duckdb.DuckDBPyConnection) -> None:
    random = np.random.default_rng(5)
    sizes = random.integers(20, 120, 60)
    sums = random.lognormal(-6, 1.0, 60) * sizes
    clusters = pa.table({"slot": range(60), "positions": sizes.tolist(), "sum_kl": sums.tolist()})
    con.register("clusters", clusters)
    con.execute(
        "CREATE TABLE numeric.groups AS SELECT 'r' AS run_id, 'c' AS cell_id, 'n' AS node_id, "
        "1 AS attempt, 'prefill' AS probe, '*' AS case_group, slot::VARCHAR AS case_id, sum_kl, "
        "positions, sum_kl / positions AS mean_kl, 1.0 AS max_kl, 0 AS flips, 0 AS nonfinite, "
        "0 AS worst_position, 'r1' AS reference_id, slot, "
        "60 AS clusters FROM clusters"
    )
    con.execute(f"CREATE TABLE numeric.resamples AS {view('numeric.resamples')}")
    (row,) = con.sql(view("numeric.bounds")).to_arrow_table().to_pylist()

    def mean(s: np.ndarray, n: np.ndarray, axis: int) -> np.ndarray:
        return np.sum(s, axis=axis) / np.sum(n, axis=axis)

    told = stats.bootstrap(
        (sums, sizes), mean, paired=True, method="percentile", n_resamples=4000, vectorized=True
    ).confidence_interval
    width = told.high - told.low
    assert row["mean_kl"] == pytest.approx(sums.sum() / sizes.sum())
    assert row["ci_low"] == pytest.approx(told.low, abs=0.12 * width)
    assert row["ci_high"] == pytest.approx(told.high, abs=0.12 * width)


def test_resamples_are_the_same_every_time_and_even(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("CREATE TABLE numeric.groups AS SELECT 'r' AS run_id, 40 AS clusters")
    query = f"SELECT * FROM ({view('numeric.resamples')}) ORDER BY ALL"
    first, again = (con.execute(query).fetchall() for _ in range(2))
    assert first == again
    drawn = np.zeros(40)
    for _, _, slot, times in first:
        drawn[slot] += times
    assert drawn.sum() == 40 * 1000
    assert stats.chisquare(drawn).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_benjamini_hochberg_agrees_with_scipy_over_the_planned_family(
    con: duckdb.DuckDBPyConnection, seed: int
) -> None:
    """Two planned tests never ran, one of them of cases that are judged apart: their p is 1."""
    random = np.random.default_rng(seed)
    ran = 14
    # Mean KL for which the floor's prediction t has these values.
    t = random.normal(1.2, 1.5, ran)
    t[3] = t[4]
    kls = np.exp(-10 + 0.5 * np.sqrt(1 + 1 / 24) * t) - 1e-12
    bounds = pa.table({"cell_id": [f"c{i:02}" for i in range(ran)], "mean_kl": kls.tolist()})
    con.register("bounds", bounds)
    con.execute(
        "CREATE TABLE numeric.bounds AS SELECT 'r' AS run_id, cell_id, 'n' AS node_id, "
        "1 AS attempt, 'prefill' AS probe, '*' AS case_group, mean_kl FROM bounds"
    )
    con.execute(
        "CREATE TABLE numeric.pair_floors AS SELECT 'r' AS run_id, cell_id, 'n' AS node_id, "
        "'f1' AS floor_id, 'fn' AS function_digest, 0.0 AS max_flip_margin FROM bounds"
    )
    con.execute(
        "CREATE TABLE numeric.floor_fits AS SELECT 'r' AS run_id, 'f1' AS floor_id, "
        "'fn' AS function_digest, unnest(['prefill', 'decode']) AS probe, 24 AS configurations, "
        "unnest([-10.0, -30.0]) AS mean_x, 0.5 AS sd_x, 23.0 AS degrees, 20 AS needed"
    )
    con.execute(
        "CREATE TABLE staging.planned_probes AS SELECT 'r' AS run_id, 'c' || i AS cell_id, "
        "'n' AS node_id, 'prefill' AS probe, []::VARCHAR[] AS tags, 'logits' AS stage "
        f"FROM range({ran + 1}) AS x (i)"
    )
    con.execute(
        "CREATE TABLE numeric.logits_grouped AS SELECT 'r' AS run_id, 'c0' AS cell_id, "
        "'n' AS node_id, 'prefill' AS probe, unnest(['*', 'tag', '*bound 0']) AS case_group"
    )
    rows = con.sql(f"SELECT * FROM ({view('numeric.tests')}) ORDER BY cell_id").to_arrow_table()
    p = stats.t.sf(t, 23)
    truth = stats.false_discovery_control([*p, 1.0, 1.0])[:ran]
    assert np.allclose(rows["p_value"].to_numpy(), p, rtol=1e-6)
    assert np.allclose(rows["adjusted_p"].to_numpy(), truth, rtol=1e-6)


def test_a_floor_of_equal_configurations_still_has_a_spread(
    con: duckdb.DuckDBPyConnection,
) -> None:
    (row,) = floor_fits(con, np.zeros((1, 24))).to_pylist()
    assert row["configurations"] == 24
    assert row["sd_x"] == 0.05
    assert row["degrees"] == 23
    assert row["compute_dtype"] == "f32"


@pytest.mark.parametrize(
    ("engine", "count", "needed", "judges"),
    [
        ("transformers", 3, 4, False),
        ("transformers", 4, 4, True),
        ("other", 19, 20, False),
        ("other", 20, 20, True),
    ],
)
def test_few_configurations_make_a_floor_only_where_a_prior_is_known(
    con: duckdb.DuckDBPyConnection, engine: str, count: int, needed: int, judges: bool
) -> None:
    (row,) = floor_fits(con, np.full((1, count), 1e-9), engine=engine).to_pylist()
    assert row["needed"] == needed
    assert (row["degrees"] is not None) is (row["sd_x"] is not None) is judges


def alarms(
    con: duckdb.DuckDBPyConnection, kls: np.ndarray, margin: float, prior_degrees: float = 0
) -> dict[str, float]:
    """Judge the configurations of a floor against each other."""
    con.execute(
        "CREATE TABLE sources.reference_roots AS SELECT 'r' AS run_id, 0 AS rank, 'x' AS root"
    )
    con.execute(
        "CREATE TABLE staging.pairs AS SELECT 'r' AS run_id, 'c' AS cell_id, 'n' AS node_id, "
        "'structure' AS pass, ?::DOUBLE AS margin",
        [margin],
    )
    con.execute(
        "CREATE TABLE numeric.pair_floors AS SELECT 'r' AS run_id, 'c' AS cell_id, 'n' AS node_id, "
        "'f1' AS floor_id"
    )
    con.register("kls", pa.table({"i": range(len(kls)), "mean_kl": kls.tolist()}))
    con.execute(
        "CREATE TABLE sources.floors AS SELECT 'x' AS root, 'f1' AS floor_id, 'prefill' AS probe, "
        "i::VARCHAR AS configuration, mean_kl FROM kls"
    )
    con.execute(
        "CREATE TABLE numeric.floor_fits AS SELECT 'r' AS run_id, 'f1' AS floor_id, "
        "'prefill' AS probe, ?::DOUBLE AS prior_degrees, 0.5 AS prior_sd",
        [prior_degrees],
    )
    (row,) = con.sql(view("alarm_rates")).to_arrow_table().to_pylist()
    return dict(row)


@pytest.mark.parametrize("margin", [0.0, 1e-3])
@pytest.mark.parametrize("prior", [0, 8])
def test_benign_configurations_judge_each_other_as_scipy_would(
    con: duckdb.DuckDBPyConnection, margin: float, prior: int
) -> None:
    kls = np.exp(np.random.default_rng(2).normal(-7, 0.8, 40))
    x = np.log(kls + 1e-12)
    expected = 0
    for i, value in enumerate(x):
        rest = np.delete(x, i)
        degrees = prior + len(rest) - 1
        spread = np.sqrt((prior * 0.5**2 + (len(rest) - 1) * rest.var(ddof=1)) / degrees)
        t = (value - rest.mean()) / (spread * np.sqrt(1 + 1 / len(rest)))
        expected += int(stats.t.sf(t, degrees) <= 0.05 and kls[i] > margin)
    assert expected > 0
    row = alarms(con, kls, margin, prior)
    assert (row["configurations"], row["alarms"]) == (40, expected)
    told = stats.binomtest(expected, 40).proportion_ci(0.9, "exact")
    assert row["upper"] == pytest.approx(told.high)


def test_an_outlier_among_equal_configurations_alarms_and_below_the_margin_it_does_not(
    con: duckdb.DuckDBPyConnection,
) -> None:
    kls = np.full(20, 1e-9)
    kls[3] = 1e-4
    assert alarms(con, kls, 1e-7)["alarms"] == 1
    with bare("sources.rules") as other:
        row = alarms(other, kls, 1e-3)
    assert row["alarms"] == 0
    assert row["upper"] == pytest.approx(1 - 0.05 ** (1 / 20))
