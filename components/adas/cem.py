"""The cross-entropy method (Rubinstein 1999), as Transformer² uses it to mix experts from a few examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def cross_entropy_method(
    score: Callable[[np.ndarray], float],
    start: np.ndarray,
    *,
    iterations: int,
    population: int,
    elites: int,
    rng: np.random.Generator,
    spread: float = 0.3,
) -> tuple[np.ndarray, float]:
    """Maximise `score` over vectors in [0, 1]^d. `start` itself is among those tried; the best of all is returned.

    :param start: (d,) mean of the first normal distribution; `spread` is its standard deviation.
    :param score: (d,) → its worth.
    :param population: vectors tried in an iteration.
    :param elites: the best of a population, to which mean and deviation are fitted anew.
    :returns: the best vector (d,), and its score.
    """
    mean, deviation = start.astype(np.float64), np.full(start.shape, spread)
    best, value = mean, score(mean)
    for _ in range(iterations):
        candidates = np.clip(mean + deviation * rng.standard_normal((population, len(mean))), 0.0, 1.0)
        scores = np.array([score(candidate) for candidate in candidates])
        order = np.argsort(-scores, kind="stable")[:elites]
        if scores[order[0]] > value:
            best, value = candidates[order[0]], float(scores[order[0]])
        mean, deviation = candidates[order].mean(0), candidates[order].std(0)
    return best, float(value)
