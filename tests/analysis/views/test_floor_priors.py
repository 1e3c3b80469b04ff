"""The prior of a floor: learned from shipped floors, honest when a model is noisier than those."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from suites.loading import SHIPPED
from tests.analysis.bare import bare, floor_fits

ALPHA = 0.05
CONFIGURATIONS = 5
MODELS = 10_000


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


def alarms(dtype: str, spread: float, shift: float) -> float:
    """How often the rule alarms for a cell that lies ``shift`` (in x) from its model's floor."""
    rng = np.random.default_rng(20_261_128)
    mean = rng.normal(-9, 3, (MODELS, 1))
    own = rng.normal(mean, spread, (MODELS, CONFIGURATIONS))
    with bare("sources.rules", "sources.floor_priors") as con:
        fits = floor_fits(con, np.exp(own), dtype)
        sd, degrees, center = (fits[n].to_numpy() for n in ("sd_x", "degrees", "mean_x"))
    cell = rng.normal(mean[:, 0] + shift, spread)
    p = stats.t.sf((cell - center) / (sd * np.sqrt(1 + 1 / CONFIGURATIONS)), degrees)
    return float(np.mean(p < ALPHA))


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("noisier", [0.5, 1.0, 2.0])
def test_a_model_up_to_twice_as_noisy_raises_no_more_alarms_than_nominal(
    dtype: str, noisier: float
) -> None:
    prior = priors()[dtype]
    # Three standard errors of the simulated rate.
    slack = 3 * np.sqrt(ALPHA * (1 - ALPHA) / MODELS)
    assert alarms(dtype, noisier * prior[0] / 2, 0.0) <= ALPHA + slack


def test_a_tenfold_error_is_seen() -> None:
    found = priors()
    power = {dtype: alarms(dtype, found[dtype][0] / 2, np.log(10)) for dtype in found}
    assert power["q8_0"] > 0.99
    assert power["f32"] > 0.95
    assert 0.2 < power["bf16"] < 0.9, "a wide floor hides it more often: the docs say so"
