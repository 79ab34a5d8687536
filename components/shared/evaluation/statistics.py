"""Intervals of means over items, alone and of two models on the same items.

Twenty lines that tests hold to scipy's, digit for digit: scipy itself would add 140 MB to the image of every phase, and a
second to its start.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

Z95 = 1.959963984540054  # the normal quantile at 97.5%


def wilson(rate: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval of a success rate over `n` trials (Wilson 1927); (0, 1) without trials."""
    if n == 0:
        return 0.0, 1.0
    spread = Z95 * math.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n**2))
    middle, scale = rate + Z95**2 / (2 * n), 1 + Z95**2 / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def clustered(values: ArrayLike, clusters: ArrayLike) -> tuple[float, float, float]:
    """Mean of (n,) values in [0, 1] with its 95% interval over items and the clusters that they were drawn in.

    Wilson's interval of as many trials as the n are worth: n over the design effect (Kish 1965), the ratio of the variance
    between clusters to what single items would give, where that is above one.

    :param clusters: (n,) int, the cluster of each value.
    :returns: (mean, low, high).
    """
    scores, group = np.asarray(values, dtype=np.float64), np.asarray(clusters)
    rate, n, names = float(scores.mean()), scores.size, np.unique(group)
    effect = 1.0
    if len(names) > 1 and 0 < rate < 1:
        sizes, means = np.array([[(group == name).sum(), scores[group == name].mean()] for name in names]).T
        between = float((sizes * (means - rate) ** 2).sum()) / (len(names) - 1)
        effect = max(1.0, between / (rate * (1 - rate)))
    return rate, *wilson(rate, n / effect)


def mean_interval(values: ArrayLike, *, seed: int = 0) -> tuple[float, float, float]:
    """Mean of (n,) values over items, with its 95% interval: Wilson's where they are bool, else a bootstrap's over items.

    :returns: (mean, low, high).
    :raises ValueError: when there are none.
    """
    scores = np.asarray(values)
    if scores.dtype == bool and scores.size:
        rate = float(scores.mean())
        return rate, *wilson(rate, scores.size)
    return paired_interval(scores, np.zeros(scores.shape), seed=seed)


def ratio_interval(
    sums: ArrayLike, sizes: ArrayLike, *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """95% percentile bootstrap interval of Σ sums / Σ sizes over clusters, such as nats a token over a text's windows.

    :param sums: (n,) of each cluster; `sizes` likewise.
    :returns: (low, high).
    """
    over, under = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, over.size, (resamples, over.size))
    low, high = np.quantile(over[picks].sum(axis=1) / under[picks].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def paired_interval(
    a: ArrayLike, b: ArrayLike, *, seed: int = 0, resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean of a − b over the same items, with a percentile bootstrap interval over items (Efron 1979).

    :param a: (n,) per-item scores of one model, right or wrong or real-valued.
    :param b: (n,) those of another model on the same items in the same order.
    :returns: (difference, low, high).
    :raises ValueError: when the two are not of one length, or empty.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1 or not left.size:
        raise ValueError(
            f"paired scores must be two equal vectors, got shapes {left.shape} and {right.shape}"
        )
    difference = left - right
    picks = np.random.default_rng(seed).integers(0, difference.size, (resamples, difference.size))
    low, high = np.quantile(difference[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)
