"""Which positions a reference keeps of a long sequence: a fixed choice of those that say most."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engines.probes.positions import MOST, informative


def test_a_short_sequence_keeps_all() -> None:
    assert informative(np.zeros(MOST)) is None


@pytest.mark.parametrize("length", [MOST + 1, 1_000, 100_000])
def test_ends_borders_and_extremes_of_a_long_sequence_are_kept(length: int) -> None:
    entropy = np.full(length, 2.0)
    entropy[[70, 100]] = 0.01, 9.0
    kept = informative(entropy)
    assert kept is not None
    assert len(kept) == MOST
    assert {0, 1, length - 1, length - 2, 15, 16, 17, 63, 64, 65, 127, 128, 70, 100} <= set(kept)
    assert max(np.diff(kept)) <= length / 40, "no stretch is left out"


@given(st.integers(MOST + 1, 3_000), st.integers(0, 9))
def test_the_choice_is_sorted_deterministic_and_bounded(length: int, seed: int) -> None:
    entropy = np.random.default_rng(seed).random(length)
    kept = informative(entropy)
    assert kept is not None
    assert kept == sorted(set(kept)) == informative(entropy.copy())
    assert (len(kept), kept[0], kept[-1]) == (MOST, 0, length - 1)


def test_noise_of_another_arithmetic_and_nan_change_nothing_of_note() -> None:
    entropy = np.round(np.random.default_rng(1).random(1_000) * 8, 1)
    assert informative(entropy + 1e-6) == informative(entropy)
    entropy[5] = np.nan
    assert len(informative(entropy) or []) == MOST
