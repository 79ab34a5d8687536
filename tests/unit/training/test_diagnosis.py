"""Regimes on synthetic curves, and hysteresis."""

from __future__ import annotations

import itertools
import math

import pytest

from components.training.diagnosis import regime, settled

FLAT = (8.0, 8.0)


@pytest.mark.parametrize(
    ("train", "held_out", "dimension", "expected"),
    [
        ((2.0, 1.0), (2.0, 1.1), FLAT, "generalising"),
        ((2.0, 1.0), (2.0, 2.0), FLAT, "memorising"),
        ((2.0, 1.0), (2.0, 2.5), (8.0, 5.0), "memorising"),
        ((0.01, 0.01), (2.0, 1.0), FLAT, "grokking"),
        ((0.01, 0.01), (2.0, 2.0), (8.0, 5.0), "grokking"),
        ((1.0, 1.0), (1.0, 1.0), FLAT, "converged"),
        ((1.0, 1.01), (1.0, 0.99), (8.0, 7.5), "converged"),
        ((1.0, 1.5), (1.0, 1.0), FLAT, "diverging"),
        ((1.0, 1.5), (1.0, 0.5), FLAT, "diverging"),
    ],
)
def test_a_regime_is_told_from_how_losses_and_geometry_moved(train, held_out, dimension, expected):
    assert regime(train, held_out, dimension) == expected


def grokking_run(moment):
    """Train loss, held-out loss and dimension of a run that memorises first and understands later (Power et al. 2022)."""
    train = 2 * math.exp(-moment / 3) + 0.1
    held_out = 0.2 + 2.5 / (1 + math.exp(moment - 35))
    return train, held_out, 6 + 10 / (1 + math.exp((moment - 33) / 2))


def test_a_run_that_groks_goes_through_the_regimes_in_their_order():
    moments = [grokking_run(moment) for moment in range(60)]
    regimes = [regime(*zip(a, b, strict=True)) for a, b in itertools.pairwise(moments)]
    settled_so_far = [settled(regimes[:number], patience=3) for number in range(3, len(regimes) + 1)]
    assert [one for one, _ in itertools.groupby(settled_so_far)] == [
        "memorising",
        "converged",
        "grokking",
        "converged",
    ]


def test_one_deviating_measurement_changes_nothing():
    steady = ["generalising"] * 3
    assert settled([*steady, "diverging"]) == "generalising"
    assert settled([*steady, "diverging", "generalising", "diverging"]) == "generalising"
    assert settled([*steady, "diverging", "diverging"]) == "diverging"


def test_before_anything_held_there_is_no_regime():
    assert settled([]) is None and settled(["memorising", "converged"]) is None
