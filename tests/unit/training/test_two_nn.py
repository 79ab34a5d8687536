"""TwoNN: known dimensions, a case by hand, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch

from components.training.geometry import two_nn


def cloud(dimension: int, count: int = 2000, seed: int = 0) -> torch.Tensor:
    """Gaussian points."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("true", "expected"), [(1, 1.0), (2, 2.0), (5, 5.04), (10, 9.5), (20, 17.3)])
def test_the_dimension_of_a_gaussian_is_found(true, expected):
    """At 20 the estimate is low, as is known of estimators that look at the nearest of few points (Facco et al.)."""
    assert two_nn(cloud(true)) == pytest.approx(expected, rel=0.07)


def test_four_points_by_hand():
    """0, 1, 3, 7 on a line: r₂/r₁ = 3/1, 2/1, 3/2, 6/4, so d = 3/(log 3 + log 2 + 2 log 1.5)."""
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert two_nn(points) == pytest.approx(3 / (math.log(3) + math.log(2) + 2 * math.log(1.5)))


def test_neither_scale_nor_turning_nor_the_space_around_matters():
    points = cloud(5, 500)
    turn = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(1)).double()).Q
    assert two_nn(300 * points @ turn[:5] + 7) == pytest.approx(two_nn(points), rel=1e-6)


def test_a_curved_surface_has_the_dimension_of_the_surface():
    """A Swiss roll lies in three dimensions and has two."""
    flat = torch.rand(3000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angle, height = (flat * torch.tensor([3 * math.pi, 20.0])).T
    roll = torch.stack([(angle + 3) * angle.cos(), height, (angle + 3) * angle.sin()], dim=1)
    assert two_nn(roll) == pytest.approx(2.0, rel=0.08)


def test_points_that_are_given_twice_count_once():
    points = cloud(5, 300)
    assert two_nn(torch.cat([points, points[:100]])) == pytest.approx(two_nn(points))


def test_two_different_points_are_refused():
    with pytest.raises(ValueError, match="has 2"):
        two_nn(torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]))
