"""Intervals against published or exactly known values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.evaluation.statistics import paired_interval, wilson


def test_wilson_gives_the_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    for successes, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(successes / n, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_contains_the_rate_and_stays_in_the_unit_interval(n, rate):
    low, high = wilson(rate, n)
    assert 0 <= low <= rate + 1e-12 and rate - 1e-12 <= high <= 1


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)  # the first example imports scipy
def test_wilson_is_scipys(trials):
    successes, n = trials
    interval = pytest.importorskip("scipy.stats").binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes / n, n) == pytest.approx((interval.low, interval.high), abs=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_a_paired_interval_is_scipys_percentile_bootstrap_of_the_same_draws(level):
    stats = pytest.importorskip("scipy.stats")
    a, b = np.random.default_rng(0).normal(0.1, 1, (2, 200))
    drawn = {"n_resamples": 500, "rng": np.random.default_rng(7), "confidence_level": level}
    interval = stats.bootstrap((a - b,), np.mean, method="percentile", **drawn).confidence_interval
    _, low, high = paired_interval(a, b, seed=7, resamples=500, level=level)
    assert (low, high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_no_trials_say_nothing():
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_a_paired_interval_is_narrower_than_the_two_models_apart():
    rng = np.random.default_rng(0)
    b = rng.random(400) < 0.5
    a = b | (rng.random(400) < 0.1)  # right wherever b is, and sometimes more
    difference, low, high = paired_interval(a, b, seed=1)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert 0 < low < difference < high
    apart = wilson(a.mean(), 400)[1] - wilson(a.mean(), 400)[0]
    assert high - low < apart
    assert paired_interval(a, b, seed=1) == (difference, low, high)


def test_a_paired_interval_covers_the_true_difference_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(150):
        a, b = rng.random(120) < 0.6, rng.random(120) < 0.5
        _, low, high = paired_interval(a, b, seed=seed, resamples=400)
        covered += low <= 0.1 <= high
    assert 0.88 <= covered / 150 <= 0.99


def test_equal_models_differ_by_nothing():
    assert paired_interval([1, 0, 1], [1, 0, 1]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("a, b", [([1, 0], [1]), ([], []), ([[1]], [[0]])])
def test_unpaired_scores_are_refused(a, b):
    with pytest.raises(ValueError, match="paired"):
        paired_interval(a, b)
