"""The frontier holds exactly the allocations that are best at some price."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.compression.allocation.allocate import RatePoint, frontier, hull, within

points = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=5)
tensors = st.lists(points, min_size=1, max_size=4)


def named(figures: list[list[tuple[int, int]]]) -> dict[str, list[RatePoint]]:
    return {
        f"tensor {i}": [RatePoint(f"code {j}", size, float(rise)) for j, (size, rise) in enumerate(row)]
        for i, row in enumerate(figures)
    }


@settings(max_examples=200)
@given(tensors)
def test_every_allocation_is_the_least_kl_for_its_bytes_and_every_price_has_its_allocation(
    figures: list[list[tuple[int, int]]],
) -> None:
    table = named(figures)
    everything = [
        (sum(o.bytes for o in picked), sum(o.kl_increase for o in picked))
        for picked in itertools.product(*table.values())
    ]
    allocations = frontier(table)
    for allocation in allocations:
        picked = [
            next(o for o in table[path] if o.preset == name) for path, name in allocation.presets.items()
        ]
        assert allocation.bytes == sum(o.bytes for o in picked)
        assert allocation.kl_increase == pytest.approx(sum(o.kl_increase for o in picked))
        assert allocation.kl_increase == pytest.approx(
            min(rise for size, rise in everything if size <= allocation.bytes)
        )
    for price in (0.0, 0.05, 0.3, 1.0, 2.5, 40.0):
        best = min(rise + price * size for size, rise in everything)
        assert best == pytest.approx(min(c.kl_increase + price * c.bytes for c in allocations))


@given(tensors)
def test_bytes_rise_and_kl_falls_along_the_frontier(figures: list[list[tuple[int, int]]]) -> None:
    allocations = frontier(named(figures))
    for earlier, later in itertools.pairwise(allocations):
        assert earlier.bytes < later.bytes and earlier.kl_increase > later.kl_increase


@given(points)
def test_each_step_up_a_hull_saves_less_kl_a_byte(figures: list[tuple[int, int]]) -> None:
    steps = [
        (a.kl_increase - b.kl_increase) / (b.bytes - a.bytes)
        for a, b in itertools.pairwise(hull([RatePoint(str(i), *f) for i, f in enumerate(figures)]))
    ]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(steps)) and all(step > 0 for step in steps)


def test_a_budget_takes_the_last_allocation_that_fits_and_none_below_the_first() -> None:
    allocations = frontier(
        {"a": [RatePoint("x", 10, 5.0), RatePoint("y", 20, 1.0)], "b": [RatePoint("x", 5, 1.0)]}
    )
    assert [within(allocations, size) for size in (14, 15, 24, 25, 1000)] == [
        None,
        *allocations[:1] * 2,
        *allocations[1:] * 2,
    ]
