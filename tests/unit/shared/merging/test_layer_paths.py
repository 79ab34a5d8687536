"""Layer paths: frankenmerge and DFS."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.merging.methods.layers.dfs import indicator, is_jump, path, residual_divisors
from components.shared.merging.methods.layers.frankenmerge import overlap, slices, splice


def test_slices_are_stacked_in_order() -> None:
    assert slices([(0, 0, 2), (1, 1, 3)]) == ((0, 0), (0, 1), (1, 1), (1, 2))


def test_a_splice_is_as_deep_as_a_parent_and_an_overlap_deeper() -> None:
    assert splice([0, 1, 2], 3) == ((0, 0), (1, 1), (2, 2))
    assert splice([0, 1], 4) == ((0, 0), (0, 1), (1, 2), (1, 3))
    assert overlap(0, 1, 4, 2) == ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (1, 3))


def test_an_indicator_switches_slots_of_the_repeated_row() -> None:
    """Two parents of two layers, twice: 0.0 0.1 1.0 1.1 0.0 0.1 1.0 1.1."""
    assert path([1, 0, 0, 1, 0, 1, 0, 0], 2, 2) == ((0, 0), (1, 1), (0, 1))


@given(st.lists(st.integers(0, 1), min_size=18, max_size=18))
@settings(max_examples=100, deadline=None)
def test_the_indicator_of_a_path_has_that_path(slots: list[int]) -> None:
    wanted = path(slots, 3, 3)
    assert path(indicator(wanted, 3, 3, 2), 3, 3) == wanted


def test_a_path_that_goes_back_too_often_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 1 repeats"):
        indicator(((1, 0), (0, 0)), 2, 1, 1)


def test_scales_count_only_where_the_path_jumps() -> None:
    route = ((0, 0), (0, 1), (1, 2), (1, 3), (0, 3))
    assert [is_jump(route, i) for i in range(5)] == [False, False, True, False, True]
    assert residual_divisors(route, [9.0, 9.0, 0.5, 9.0, 3.0]) == [1.0, 1.0, 0.5, 0.5, 1.5]
