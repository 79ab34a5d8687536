"""A curve of a hundred thousand points as two thousand that look the same, by largest triangles (LTTB, Steinarsson).

It chooses points and makes none up. The plain algorithm may pass over a peak; here the lowest and the highest point, the
first and the last are always among those chosen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def thinned(x: Floats, y: Floats, points: int) -> NDArray[np.intp]:
    """Which points of a curve to show, by their places, in order.

    :param x: (n,) ascending.
    :param y: (n,) finite.
    :param points: at most so many, 4 or more.
    """
    n = len(x)
    if n <= points:
        return np.arange(n)
    extremes = np.array([0, n - 1, int(np.argmin(y)), int(np.argmax(y))])
    chosen = np.union1d(lttb(x, y, points - 2), extremes)  # which has the first and the last already
    return chosen


def lttb(x: Floats, y: Floats, points: int) -> NDArray[np.intp]:
    """The first point, the last, and of each bucket between them the one that spans the largest triangle.

    A triangle has the point chosen before and the mean of the next bucket as its other corners.

    :param points: 2 or more, fewer than there are.
    """
    n = len(x)
    if points <= 2:
        return np.array([0, n - 1])
    edges = np.linspace(1, n - 1, points - 1).astype(np.intp)  # of the buckets between first and last
    sums_x, sums_y = (np.concatenate([[0.0], np.cumsum(values)]) for values in (x, y))
    chosen = np.empty(points, dtype=np.intp)
    chosen[0] = before = 0
    chosen[-1] = n - 1
    for bucket in range(points - 2):
        start, end = edges[bucket], edges[bucket + 1]
        after = edges[bucket + 2] if bucket + 2 < len(edges) else n
        mean_x = (sums_x[after] - sums_x[end]) / (after - end)
        mean_y = (sums_y[after] - sums_y[end]) / (after - end)
        areas = np.abs(
            (x[before] - mean_x) * (y[start:end] - y[before])
            - (x[before] - x[start:end]) * (mean_y - y[before])
        )
        before = start + int(np.argmax(areas))
        chosen[bucket + 1] = before
    return chosen
