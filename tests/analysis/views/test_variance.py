"""Variance components: known ones come back, and what a design cannot show is not called nought."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from analysis.judging.relations import Relations
from tests.analysis.bare import bare

LEVELS = ("prompt", "item", "engine", "hardware", "value")
SCHEMA = pa.schema([*((name, pa.string()) for name in LEVELS[:-1]), ("value", pa.float64())])
Outcome = tuple[str, str, str, str, float]
"""prompt, item, engine, hardware, value."""


def components(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Return the rows of ``variance_components`` over these outcomes, by component."""
    with bare() as con:
        rows = [dict(zip(LEVELS, row, strict=True)) for row in outcomes]
        con.register("simulated", pa.Table.from_pylist(rows, SCHEMA))
        con.execute(
            "CREATE TABLE staging.outcomes AS SELECT 'v' AS suite, 1 AS suite_version, "
            "'m' AS model, 'structure' AS pass, 'right' AS outcome, * FROM simulated"
        )
        Relations(con).build("variance_components")
        found = con.sql("FROM variance_components").to_arrow_table().to_pylist()
    return {row["component"]: row for row in found}


def simulated(
    sizes: tuple[int, int, int, int],
    deviations: dict[str, float],
    repeats: int,
    seed: int,
    kept: float = 1.0,
) -> list[Outcome]:
    """Draw outcomes of a crossed design: random effects of known standard deviation, then noise.

    Args:
        sizes: levels of prompt, item, engine and hardware.
        deviations: standard deviation of each factor, of ``prompt:item`` and of ``noise``.
        repeats: answers per combination of levels.
        seed: of the generator.
        kept: share of the answers that are kept, to unbalance the design.
    """
    rng = np.random.default_rng(seed)
    names = ("prompt", "item", "engine", "hardware")
    effects = [
        rng.normal(0, deviations.get(n, 0), size) for n, size in zip(names, sizes, strict=True)
    ]
    joint = rng.normal(0, deviations.get("prompt:item", 0), sizes[:2])
    found = []
    for levels in itertools.product(*map(range, sizes)):
        mean = sum(effects[f][level] for f, level in enumerate(levels)) + joint[levels[:2]]
        for _ in range(repeats):
            value = float(mean + rng.normal(0, deviations.get("noise", 0)))
            if rng.random() < kept:
                p, i, e, h = (f"{n[0]}{level}" for n, level in zip(names, levels, strict=True))
                found.append((p, i, e, h, value))
    return found


def anova(values: np.ndarray) -> dict[str, float]:
    """Components of a balanced prompt x item x repeat array [P, I, R] by the mean squares."""
    p, i, r = values.shape
    grand, cell = values.mean(), values.mean(axis=2)
    rows, columns = cell.mean(axis=1), cell.mean(axis=0)
    ms_p = i * r * ((rows - grand) ** 2).sum() / (p - 1)
    ms_i = p * r * ((columns - grand) ** 2).sum() / (i - 1)
    both = cell - rows[:, None] - columns[None, :] + grand
    ms_pi = r * (both**2).sum() / ((p - 1) * (i - 1))
    ms_e = ((values - cell[:, :, None]) ** 2).sum() / (p * i * (r - 1))
    return {
        "prompt": (ms_p - ms_pi) / (i * r),
        "item": (ms_i - ms_pi) / (p * r),
        "interactions": (ms_pi - ms_e) / r,
        "noise": ms_e,
    }


def test_a_balanced_design_has_the_estimates_of_the_analysis_of_variance() -> None:
    deviations = {"prompt": 1.0, "item": 2.0, "prompt:item": 0.7, "noise": 0.5}
    rows = simulated((5, 7, 1, 1), deviations, repeats=3, seed=1)
    expected = anova(np.array([row[4] for row in rows]).reshape(5, 7, 3))
    found = components(rows)
    assert min(expected.values()) > 0
    for name, value in expected.items():
        assert found[name]["variance"] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("kept", [1.0, 0.6])
def test_known_components_come_back_on_average(kept: float) -> None:
    deviations = {"prompt": 1.0, "item": 1.5, "engine": 0.6, "hardware": 0.3, "noise": 0.8}
    truth = {name: deviation**2 for name, deviation in deviations.items()}
    runs = [
        components(simulated((6, 8, 5, 4), deviations, repeats=2, seed=seed, kept=kept))
        for seed in range(40)
    ]
    for name, variance in truth.items():
        estimates = [run[name]["variance"] for run in runs]
        error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
        assert abs(np.mean(estimates) - variance) < 4 * error + 0.01, name
    for run in runs:
        assert sum(row["share"] for row in run.values()) == pytest.approx(1)


def test_noise_alone_is_given_to_nothing_else() -> None:
    found = components(simulated((6, 8, 5, 4), {"noise": 1.0}, repeats=3, seed=3))
    assert found["noise"]["share"] > 0.95
    below = [row for row in found.values() if row["clipped"]]
    assert below
    assert all(row["variance"] == 0 and "clipped at 0" in row["says"] for row in below)


def test_a_factor_with_one_level_has_no_share() -> None:
    rows = simulated((4, 5, 1, 1), {"prompt": 1.0, "item": 1.0}, repeats=1, seed=4)
    found = components(rows)
    for name in ("engine", "hardware"):
        assert (found[name]["levels"], found[name]["share"]) == (1, None)
        assert found[name]["says"] == "one level only"
    assert found["noise"]["share"] is None
    assert "asked twice" in found["noise"]["says"]
    assert found["prompt"]["share"] + found["item"]["share"] == pytest.approx(1)


def test_engines_that_have_a_machine_each_cannot_be_told_from_their_machines() -> None:
    rows = simulated((4, 5, 3, 3), {"prompt": 1.0, "engine": 2.0}, repeats=1, seed=5)
    found = components([row for row in rows if row[2][1:] == row[3][1:]])
    assert found["engine"]["share"] is None
    assert found["hardware"]["share"] is None
    for name, other in (("engine", "hardware"), ("hardware", "engine")):
        assert f"cannot be separated from the {other}" in found[name]["says"]
    assert found["prompt"]["share"] is not None
    joint = found["engine or hardware"]
    assert joint["variance"] == pytest.approx(4 * _spread(rows), rel=0.5)
    # There is neither interaction nor noise in these numbers.
    assert found["interactions"]["share"] == pytest.approx(0, abs=1e-9)
    assert sum(row["share"] or 0 for row in found.values()) == pytest.approx(1)


def test_what_differs_by_an_engine_on_its_own_machine_is_no_interaction() -> None:
    """The normal fleet: nothing but the cell makes a difference, and nothing else is blamed."""
    rows = [
        (p, i, f"e{e}", f"h{e}", shift + noise)
        for p, i in itertools.product("abcdef", "stuvwxyz")
        for e, shift in enumerate((-2.0, 0.0, 0.0, 2.0))
        for noise in (-0.1, 0.1)
    ]
    found = components(rows)
    assert found["engine or hardware"]["share"] > 0.9
    assert found["interactions"]["share"] < 0.01


def test_of_engines_within_machines_only_the_rest_is_shared() -> None:
    """Each machine has engines of its own: what they add to it is joint."""
    deviations = {"engine": 1.0, "hardware": 2.0, "noise": 0.1}
    rows = [
        row
        for row in simulated((4, 5, 60, 20), deviations, repeats=1, seed=6)
        if int(row[2][1:]) % 20 == int(row[3][1:])
    ]
    found = components(rows)
    assert found["engine"]["share"] is None
    assert found["hardware"]["variance"] == pytest.approx(4, rel=0.6)
    assert found["engine or hardware"]["variance"] == pytest.approx(1, rel=0.5)
    assert sum(row["share"] or 0 for row in found.values()) == pytest.approx(1)


def test_interactions_are_unknown_where_prompt_and_item_are_confounded() -> None:
    rows = [(f"p{k}", f"i{k}", e, "h0", float(k)) for k in range(6) for e in ("e0", "e1")]
    found = components(rows)
    assert {found[name]["share"] for name in ("prompt", "item", "interactions")} == {None}
    assert "no share of its own" in found["interactions"]["says"]
    assert sum(row["share"] or 0 for row in found.values()) < 0.01


def _spread(rows: Sequence[Outcome]) -> float:
    """Sample variance of the engines' means, in units of their true variance 4."""
    means = [np.mean([r[4] for r in rows if r[2] == e]) for e in ("e0", "e1", "e2")]
    return float(np.var(means, ddof=1)) / 4


def test_an_engine_that_alone_gets_a_question_wrong_is_an_interaction_not_a_prompt() -> None:
    rows = [
        (p, i, e, "h0", 0.0 if (i, e) == ("i2", "e1") else 1.0)
        for p, i, e in itertools.product(("p0", "p1", "p2"), ("i0", "i1", "i2"), ("e0", "e1"))
    ]
    found = components(rows)
    assert found["prompt"]["variance"] == 0
    assert found["interactions"]["variance"] > 0


def test_equal_outcomes_have_nothing_to_share_out() -> None:
    rows = [(p, i, "e0", "h0", 1.0) for p, i in itertools.product("ab", "cd")]
    found = components(rows)
    assert {row["share"] for row in found.values()} == {None}
    assert found["prompt"]["says"] == "nothing differs"


def test_without_a_factorial_suite_there_is_nothing() -> None:
    assert components([]) == {}
