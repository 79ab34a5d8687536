"""Thinned curves: points of the curve itself, as largest triangles choose them, the extremes always among them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.control.services.thinning import lttb, thinned


def plain_lttb(x: list[float], y: list[float], threshold: int) -> list[int]:
    """The algorithm as Steinarsson's thesis writes it, word by word, with our borders of the buckets."""
    n = len(x)
    edges = [int(edge) for edge in np.linspace(1, n - 1, threshold - 1)]
    chosen = [0]
    for bucket in range(threshold - 2):
        after_start, after_end = edges[bucket + 1], edges[bucket + 2] if bucket + 2 < len(edges) else n
        mean_x = sum(x[after_start:after_end]) / (after_end - after_start)
        mean_y = sum(y[after_start:after_end]) / (after_end - after_start)
        a, best, area_of_best = chosen[-1], -1, -1.0
        for place in range(edges[bucket], edges[bucket + 1]):
            area = abs((x[a] - mean_x) * (y[place] - y[a]) - (x[a] - x[place]) * (mean_y - y[a])) / 2
            if area > area_of_best:
                best, area_of_best = place, area
        chosen.append(best)
    return [*chosen, n - 1]


def test_largest_triangles_are_those_of_the_thesis() -> None:
    random = np.random.default_rng(0)
    x = np.arange(5000.0)
    for y in (
        np.sin(x / 100),
        random.normal(size=5000).cumsum(),
        np.where(x == 1234, 50.0, random.random(5000)),
    ):
        for points in (3, 10, 101, 500):
            assert lttb(x, y, points).tolist() == plain_lttb(x.tolist(), y.tolist(), points)


@settings(max_examples=100, deadline=None)
@given(
    y=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400),
    points=st.integers(4, 50),
)
def test_a_thinned_curve_has_its_ends_and_its_extremes(y: list[float], points: int) -> None:
    values = np.array(y)
    chosen = thinned(np.arange(float(len(y))), values, points)
    assert len(chosen) <= max(points, 4)
    assert (np.diff(chosen) > 0).all()
    assert (chosen[0], chosen[-1]) == (0, len(y) - 1)
    assert values[chosen].min() == values.min()
    assert values[chosen].max() == values.max()


def test_a_peak_of_one_point_in_a_hundred_thousand_is_seen() -> None:
    x = np.arange(100_000.0)
    y = np.random.default_rng(1).normal(size=100_000)
    y[54_321], y[54_323] = 99.0, -99.0
    chosen = thinned(x, y, 2000)
    assert len(chosen) <= 2000
    assert {54_321, 54_323} <= set(chosen.tolist())


def test_a_short_curve_stays_whole() -> None:
    x = np.arange(7.0)
    assert thinned(x, x, 7).tolist() == list(range(7))
