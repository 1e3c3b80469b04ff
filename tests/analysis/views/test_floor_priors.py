"""The prior of a floor: learned from shipped floors, honest when a model is noisier than those."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from suites.loading import SHIPPED
from tests.analysis.bare import bare

ALPHA = 0.05
CONFIGURATIONS = 5
REPEATS = 20_000


def priors() -> dict[str, tuple[float, float]]:
    with bare("sources.floor_priors") as con:
        rows = con.sql("SELECT compute_dtype, sd, weight FROM sources.floor_priors").fetchall()
    return {dtype: (sd, weight) for dtype, sd, weight in rows}


def pooled_sd(dtype: str, offset: float) -> float:
    """The sd of x within the shipped floors of a dtype, prefill and decode pooled."""
    variances = []
    for path in (SHIPPED / "references" / "floors").glob("*.parquet"):
        rows = [r for r in pq.read_table(path).to_pylist() if r["compute_dtype"] == dtype]
        for probe in {row["probe"] for row in rows}:
            x = [np.log(max(r["mean_kl"], 0) + offset) for r in rows if r["probe"] == probe]
            variances.append(np.var(x, ddof=1))
    return float(np.sqrt(np.mean(variances)))


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0"])
def test_a_prior_is_twice_the_spread_of_the_shipped_floors(dtype: str) -> None:
    assert priors()[dtype][0] == pytest.approx(max(2 * pooled_sd(dtype, 1e-12), 0.5), rel=0.03)


def test_an_unknown_dtype_takes_the_widest() -> None:
    found = priors()
    assert found["*"][0] == max(sd for sd, _ in found.values())


def alarms(spread: float, shift: float, prior: tuple[float, float]) -> float:
    """How often the rule alarms for a cell that lies ``shift`` (in x) from its model's floor."""
    rng = np.random.default_rng(20_261_128)
    sd, weight = prior
    own = rng.normal(0, spread, (REPEATS, CONFIGURATIONS))
    cell = rng.normal(shift, spread, REPEATS)
    degrees = weight + CONFIGURATIONS - 1
    squares = weight * sd**2 + (CONFIGURATIONS - 1) * own.var(axis=1, ddof=1)
    scale = np.sqrt(squares / degrees * (1 + 1 / CONFIGURATIONS))
    p = stats.t.sf((cell - own.mean(axis=1)) / scale, degrees)
    return float(np.mean(p < ALPHA))


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("noisier", [0.5, 1.0, 2.0])
def test_a_model_up_to_twice_as_noisy_raises_no_more_alarms_than_nominal(
    dtype: str, noisier: float
) -> None:
    prior = priors()[dtype]
    # Three standard errors of the simulated rate.
    slack = 3 * np.sqrt(ALPHA * (1 - ALPHA) / REPEATS)
    assert alarms(noisier * prior[0] / 2, 0.0, prior) <= ALPHA + slack


def test_a_tenfold_error_is_seen() -> None:
    found = priors()
    power = {dtype: alarms(prior[0] / 2, np.log(10), prior) for dtype, prior in found.items()}
    assert power["q8_0"] > 0.99
    assert power["f32"] > 0.95
    assert 0.2 < power["bf16"] < 0.9, "a wide floor hides it more often: the docs say so"
