"""The frontier holds exactly the choices that are best at some price."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.compression.allocation.allocate import Offer, frontier, hull, within

offers = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=5)
tensors = st.lists(offers, min_size=1, max_size=4)


def named(figures: list[list[tuple[int, int]]]) -> dict[str, list[Offer]]:
    return {
        f"tensor {i}": [Offer(f"code {j}", size, float(harm)) for j, (size, harm) in enumerate(row)]
        for i, row in enumerate(figures)
    }


@settings(max_examples=200)
@given(tensors)
def test_every_choice_is_the_least_harm_for_its_bytes_and_every_price_has_its_choice(
    figures: list[list[tuple[int, int]]],
) -> None:
    table = named(figures)
    everything = [
        (sum(o.bytes for o in picked), sum(o.harm for o in picked))
        for picked in itertools.product(*table.values())
    ]
    choices = frontier(table)
    for choice in choices:
        picked = [next(o for o in table[path] if o.name == name) for path, name in choice.names.items()]
        assert choice.bytes == sum(o.bytes for o in picked)
        assert choice.harm == pytest.approx(sum(o.harm for o in picked))
        assert choice.harm == pytest.approx(min(harm for size, harm in everything if size <= choice.bytes))
    for price in (0.0, 0.05, 0.3, 1.0, 2.5, 40.0):
        best = min(harm + price * size for size, harm in everything)
        assert best == pytest.approx(min(c.harm + price * c.bytes for c in choices))


@given(tensors)
def test_bytes_rise_and_harm_falls_along_the_frontier(figures: list[list[tuple[int, int]]]) -> None:
    choices = frontier(named(figures))
    for earlier, later in itertools.pairwise(choices):
        assert earlier.bytes < later.bytes and earlier.harm > later.harm


@given(offers)
def test_each_step_up_a_hull_saves_less_harm_a_byte(figures: list[tuple[int, int]]) -> None:
    steps = [
        (a.harm - b.harm) / (b.bytes - a.bytes)
        for a, b in itertools.pairwise(hull([Offer(str(i), *f) for i, f in enumerate(figures)]))
    ]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(steps)) and all(step > 0 for step in steps)


def test_a_budget_takes_the_last_choice_that_fits_and_none_below_the_first() -> None:
    choices = frontier({"a": [Offer("x", 10, 5.0), Offer("y", 20, 1.0)], "b": [Offer("x", 5, 1.0)]})
    assert [within(choices, size) for size in (14, 15, 24, 25, 1000)] == [
        None,
        *choices[:1] * 2,
        *choices[1:] * 2,
    ]
