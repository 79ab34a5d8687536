"""Intrinsic dimension of what a layer represents, from the two nearest neighbours of each point.

TwoNN (Facco et al. 2017, Scientific Reports 7:12140): for points of a d-dimensional manifold μ = r₂/r₁ follows a Pareto law
with exponent d, whatever the density. The maximum-likelihood estimate is d = (N − 1)/Σ log μ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def two_nn(points: Tensor) -> float:
    """Intrinsic dimension of a cloud of points. Duplicates of a point are dropped: their r₁ is zero.

    Cost: O(n²) time and memory.

    :param points: (n, features).
    :raises ValueError: fewer than three different points.
    """
    points = torch.unique(points.double(), dim=0)
    if len(points) < 3:
        raise ValueError(f"TwoNN needs three different points at least, and has {len(points)}")
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(2, dim=1, largest=False).values
    return float((len(points) - 1) / (nearest[:, 1] / nearest[:, 0]).log().sum())
