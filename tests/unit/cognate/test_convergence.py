"""Convergence is told from noise and from slow progress."""

import random

import pytest

from components.cognate.convergence import converged


def noisy(slope: float, noise: float, count: int = 200, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [2.0 + slope * step + rng.gauss(0, noise) for step in range(count)]


def test_a_falling_loss_has_not_converged():
    assert not converged(noisy(-0.004, 0.05), 200, 0.01)


@pytest.mark.parametrize("seed", range(5))
def test_a_flat_noisy_loss_has_converged(seed):
    assert converged(noisy(0.0, 0.3, seed=seed), 200, 0.05)


def test_a_rising_loss_has_converged():
    assert converged(noisy(0.002, 0.05), 200, 0.01)


def test_an_improvement_below_the_tolerance_is_not_worth_going_on_for():
    slow = noisy(-0.00005, 0.0)  # 0.005 between the halves, a quarter of a percent of 2
    assert converged(slow, 200, 0.01) and not converged(slow, 200, 0.001)


def test_an_improvement_within_the_noise_does_not_count():
    """Means differ by a little over one percent, their standard error is far larger."""
    rng = random.Random(1)
    losses = [2.0 + rng.gauss(0, 3) for _ in range(100)] + [1.97 + rng.gauss(0, 3) for _ in range(100)]
    assert converged(losses, 200, 0.001)


def test_too_few_losses_have_not_converged():
    assert not converged([1.0] * 199, 200, 0.5)
